package relay

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pires/go-proxyproto"
)

// header is what the library writes, so that both sides of ours are held against it.
func header(t testing.TB, version byte, from, to string) []byte {
	t.Helper()
	h := proxyproto.HeaderProxyFromAddrs(version, tcpAddr(from), tcpAddr(to))
	raw, err := h.Format()
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func tcpAddr(s string) net.Addr { return net.TCPAddrFromAddrPort(netip.MustParseAddrPort(s)) }

func TestReadProxyHeader(t *testing.T) {
	local := []byte("\r\n\r\n\x00\r\nQUIT\n\x20\x00\x00\x00")
	tooLong := append([]byte("\r\n\r\n\x00\r\nQUIT\n\x21\x11"), 0xff, 0xff)
	for _, c := range []struct {
		name   string
		in     []byte
		client string // "" is none
		ok     bool
	}{
		{"v1", header(t, 1, "192.0.2.1:1000", "198.51.100.1:80"), "192.0.2.1:1000", true},
		{"v1 IPv6", header(t, 1, "[2001:db8::1]:1000", "[2001:db8::2]:80"), "[2001:db8::1]:1000", true},
		{"v1 unknown", []byte("PROXY UNKNOWN\r\n"), "", true},
		{"v2", header(t, 2, "192.0.2.1:1000", "198.51.100.1:80"), "192.0.2.1:1000", true},
		{"v2 IPv6", header(t, 2, "[2001:db8::1]:1000", "[2001:db8::2]:80"), "[2001:db8::1]:1000", true},
		{"v2 local", local, "", true},
		{"none", []byte("GET / HTTP/1.1\r\n\r\n"), "", false},
		{"v1 without an end", []byte("PROXY " + strings.Repeat("x", 200)), "", false},
		{"v1 with a bad address", []byte("PROXY TCP4 1.2.3 1.2.3.4 1 2\r\n"), "", false},
		{"v2 too long", tooLong, "", false},
		{"v2 cut short", header(t, 2, "192.0.2.1:1000", "198.51.100.1:80")[:20], "", false},
		{"nothing", nil, "", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			const payload = "PAYLOAD"
			in := c.in
			if c.ok {
				in = append(bytes.Clone(in), payload...)
			}
			r := bytes.NewReader(in)
			h, err := readProxyHeader(r)
			if (err == nil) != c.ok {
				t.Fatalf("error is %v", err)
			}
			if !c.ok {
				return
			}
			if rest, _ := io.ReadAll(r); string(rest) != payload {
				t.Errorf("%q is left, want %q", rest, payload)
			}
			if got := h.client.IsValid(); got != (c.client != "") || got && h.client.String() != c.client {
				t.Errorf("the client is %v, want %q", h.client, c.client)
			}
		})
	}
}

func FuzzReadProxyHeader(f *testing.F) {
	f.Add(header(f, 1, "192.0.2.1:1000", "198.51.100.1:80"))
	f.Add(header(f, 2, "[2001:db8::1]:1000", "[2001:db8::2]:80"))
	f.Add([]byte("PROXY UNKNOWN ffff\r\nrest"))
	f.Add([]byte("\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c"))
	f.Add(withTLVs(f, padding, authority, ssl, amazon, google, empty))
	f.Add(summed(withTLVs(f, tlv(0x03, "\x00\x00\x00\x00"), alpn), 31))
	f.Fuzz(func(t *testing.T, in []byte) {
		r := bytes.NewReader(in)
		h, err := readProxyHeader(r)
		taken := len(in) - r.Len()
		if taken > proxyV2Max {
			t.Errorf("took %d bytes", taken)
		}
		if err != nil {
			return
		}
		switch {
		case in[0] == 'P' && (taken > proxyV1Max || !bytes.HasSuffix(in[:taken], []byte("\r\n"))):
			t.Errorf("took %q for a line", in[:taken])
		case in[0] == '\r' && taken != proxyV2Fixed+int(binary.BigEndian.Uint16(in[14:])):
			t.Errorf("took %d bytes of version 2", taken)
		}
		if h.client.IsValid() != h.dest.IsValid() {
			t.Errorf("client %v, destination %v", h.client, h.dest)
		}
		if in[0] == '\r' && in[12] == 0x21 {
			checkExtensions(t, h, in[:taken])
		}
	})
}

func TestSendProxy(t *testing.T) {
	for _, version := range []int{1, 2} {
		type seen struct {
			h    proxyHeader
			rest string
			err  error
		}
		got := make(chan seen, 1)
		target := serve(t, "tcp", "127.0.0.1:0", func(c net.Conn) {
			h, err := readProxyHeader(c)
			rest, _ := io.ReadAll(c)
			got <- seen{h, string(rest), err}
		}).String()
		port := freePort(t)
		path := filepath.Join(t.TempDir(), "s")
		r := startRelay(t)
		f, g := fwd(t, "x", port, target), fwd(t, "y", "unix:"+path, target)
		f.SendProxy, g.SendProxy = version, version
		apply(t, r, f, g)
		for _, via := range []string{"127.0.0.1:" + port, "[::1]:" + port, path} {
			network := "tcp"
			if via == path {
				network = "unix"
			}
			c := dial(t, network, via)
			_, _ = io.WriteString(c, "hello")
			_ = c.(interface{ CloseWrite() error }).CloseWrite()
			s := <-got
			if s.err != nil || s.rest != "hello" {
				t.Errorf("v%d by %s: the target got %q after the header, %v", version, via, s.rest, s.err)
			}
			if via == path {
				if s.h.client.IsValid() {
					t.Errorf("v%d: a client of a unix socket has the address %v", version, s.h.client)
				}
			} else if s.h.client.String() != c.LocalAddr().String() || s.h.dest.String() != via {
				t.Errorf("v%d by %s: the header says %v to %v", version, via, s.h.client, s.h.dest)
			}
		}
		eventually(t, "the sessions to end", func() bool { return r.Stats()["x"].Open == 0 })
		if s := r.Stats()["x"]; s.BytesIn != 10 {
			t.Errorf("v%d: %d bytes in, want 10: the header is not the client's", version, s.BytesIn)
		}
	}
}

func TestAcceptProxy(t *testing.T) {
	target := serve(t, "tcp", "127.0.0.1:0", echo).String()
	port := freePort(t)
	f := fwd(t, "x", port, target)
	f.AcceptProxy = prefixes("127.0.0.2/32")
	f.From = prefixes("127.0.0.0/8") // about the real peer, not about whom it speaks for
	f.MaxPerSource = 1
	r := startRelay(t)
	apply(t, r, f)
	addr := "127.0.0.1:" + port
	for _, version := range []byte{1, 2} {
		c := dialFrom(t, "127.0.0.2", addr)
		raw := header(t, version, "192.0.2.1:1000", "198.51.100.1:80")
		_, _ = c.Write(append(raw, "hello"...)) // payload right behind it
		back := make([]byte, 5)
		if _, err := io.ReadFull(c, back); err != nil || string(back) != "hello" {
			t.Fatalf("v%d: got %q, %v", version, back, err)
		}
		eventually(t, "the session of the client in the header", func() bool {
			list := sessionsOf(r)
			return len(list) == 1 && list[0].Client == "192.0.2.1:1000" && list[0].BytesIn == 5
		})
		second := dialFrom(t, "127.0.0.2", addr)
		_, _ = second.Write(header(t, version, "192.0.2.1:1001", "198.51.100.1:80"))
		turnedAway(t, second) // max_per_source is about the client in the header
		third := dialFrom(t, "127.0.0.2", addr)
		_, _ = third.Write(header(t, version, "192.0.2.2:1000", "198.51.100.1:80"))
		ask(t, third, "hello")
		for _, c := range []net.Conn{c, third} {
			c.Close()
		}
		eventually(t, "the sessions to end", func() bool { return r.Stats()["x"].Open == 0 })
	}

	bare := dialFrom(t, "127.0.0.2", addr)
	_, _ = io.WriteString(bare, "GET / HTTP/1.0\r\n\r\n")
	turnedAway(t, bare)

	// Whoever is not trusted cannot speak for others: what looks like a header is payload.
	stranger := dialFrom(t, "127.0.0.3", addr)
	ask(t, stranger, "PROXY TCP4 192.0.2.9 198.51.100.1 1 2\r\n")
	if list := sessionsOf(r); len(list) != 1 || list[0].Client != stranger.LocalAddr().String() {
		t.Errorf("sessions are %+v", list)
	}
}

func TestSilentPeerDoesNotHoldUpTheEnd(t *testing.T) {
	port := freePort(t)
	f := fwd(t, "x", port, "192.0.2.9:1")
	f.AcceptProxy = prefixes("127.0.0.0/8")
	r := startRelay(t)
	apply(t, r, f)
	c := dial(t, "tcp", "127.0.0.1:"+port)
	apply(t, r)
	if _, err := c.Read(make([]byte, 1)); err == nil || errors.Is(err, io.ErrNoProgress) {
		t.Error("the connection stayed")
	}
}
