package relay

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/pires/go-proxyproto"
)

// withTLVs is a version 2 header as the library writes it.
func withTLVs(t testing.TB, tlvs ...proxyproto.TLV) []byte {
	t.Helper()
	h := proxyproto.HeaderProxyFromAddrs(2, tcpAddr("192.0.2.1:1000"), tcpAddr("198.51.100.1:80"))
	if err := h.SetTLVs(tlvs); err != nil {
		t.Fatal(err)
	}
	raw, err := h.Format()
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func tlv(kind byte, value string) proxyproto.TLV {
	return proxyproto.TLV{Type: proxyproto.PP2Type(kind), Value: []byte(value)}
}

// summed puts the right checksum where four zero bytes stand for one, at this place in the header.
func summed(header []byte, at int) []byte {
	header = bytes.Clone(header)
	binary.BigEndian.PutUint32(header[at:], crc32.Checksum(header, crc32.MakeTable(crc32.Castagnoli)))
	return header
}

// Some of what real senders say (proxy-protocol.txt, sections 2.2.1 to 2.2.7, and the documents of the providers).
var (
	alpn      = tlv(0x01, "h2")
	authority = tlv(0x02, "shop.example")
	padding   = tlv(0x04, "\x00\x00\x00\x00\x00")
	uniqueID  = tlv(0x05, "\x01\x02\xff")
	ssl       = tlv(0x20, "\x01\x00\x00\x00\x00\x21\x00\x07TLSv1.3")
	netns     = tlv(0x30, "blue")
	google    = tlv(0xe0, "\x00\x00\x00\x00\x00\x00\x00\x2a")
	amazon    = tlv(0xea, "\x01vpce-08d2bf15fac5001c9")
	azure     = tlv(0xee, "\x01\x2a\x00\x00\x00")
	empty     = tlv(0xf0, "")
)

func TestExtensionsArePassedOn(t *testing.T) {
	all := []proxyproto.TLV{alpn, authority, uniqueID, ssl, netns, google, amazon, azure, empty}
	sum := tlv(0x03, "\x00\x00\x00\x00")
	const sumAt = proxyV2Fixed + 12 + tlvFixed
	for _, c := range []struct {
		name string
		in   []byte
		want []byte
	}{
		{"none", withTLVs(t), withTLVs(t)},
		{"all, in their order", withTLVs(t, all...), withTLVs(t, all...)},
		{"padding goes", withTLVs(t, padding, alpn, padding, google), withTLVs(t, alpn, google)},
		{"twice the same type", withTLVs(t, google, google), withTLVs(t, google, google)},
		{"a checksum is made anew", summed(withTLVs(t, sum, padding, alpn), sumAt), summed(withTLVs(t, alpn, sum), sumAt+tlvFixed+2)},
		{"a checksum alone", summed(withTLVs(t, sum), sumAt), summed(withTLVs(t, sum), sumAt)},
	} {
		h, err := readProxyHeader(bytes.NewReader(c.in))
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if got, err := h.format(2); err != nil || !bytes.Equal(got, c.want) {
			t.Errorf("%s: got % x, %v; want % x", c.name, got, err, c.want)
		}
		if got, err := h.format(1); err != nil || string(got) != "PROXY TCP4 192.0.2.1 198.51.100.1 1000 80\r\n" {
			t.Errorf("%s: in version 1 it is %q, %v", c.name, got, err)
		}
	}
}

func TestBrokenExtensions(t *testing.T) {
	good := withTLVs(t, alpn)
	shorter := func(n int) []byte {
		raw := bytes.Clone(good[:len(good)-n])
		raw[15] -= byte(n)
		return raw
	}
	for _, c := range []struct {
		name, says string
		in         []byte
	}{
		{"cut in its value", "type 0x01 is longer than the header", shorter(1)},
		{"cut in its length", "an extension is cut short", shorter(3)},
		{"a wrong checksum", "its checksum is wrong", withTLVs(t, tlv(0x03, "\x01\x02\x03\x04"))},
		{"a short checksum", "its checksum has 3 bytes", withTLVs(t, tlv(0x03, "\x01\x02\x03"))},
		{"changed on the way", "its checksum is wrong", changed(summed(withTLVs(t, tlv(0x03, "\x00\x00\x00\x00"), alpn), 31))},
	} {
		if _, err := readProxyHeader(bytes.NewReader(c.in)); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, want %q", c.name, err, c.says)
		}
	}
	local := bytes.Clone(shorter(1))
	local[12] = 0x20 // LOCAL: what follows is to be skipped unread
	if h, err := readProxyHeader(bytes.NewReader(local)); err != nil || len(h.extensions.raw) > 0 {
		t.Errorf("LOCAL: %+v, %v", h, err)
	}
}

func changed(header []byte) []byte {
	header[len(header)-1] ^= 1
	return header
}

// TestExtensionsThroughTheRelay is accept_proxy with send_proxy, as a target sees it.
func TestExtensionsThroughTheRelay(t *testing.T) {
	got := make(chan []byte, 1)
	target := serve(t, "tcp", "127.0.0.1:0", func(c net.Conn) {
		raw, _ := io.ReadAll(c)
		got <- raw
	}).String()
	port := freePort(t)
	f := fwd(t, "x", port, target)
	f.AcceptProxy, f.SendProxy = prefixes("127.0.0.0/8"), 2
	r := startRelay(t)
	apply(t, r, f)
	for _, command := range []byte{0x21, 0x20} {
		header := withTLVs(t, authority, ssl, amazon)
		header[12] = command
		c := dial(t, "tcp", "127.0.0.1:"+port)
		_, _ = c.Write(append(bytes.Clone(header), "hello"...))
		_ = c.(*net.TCPConn).CloseWrite()
		want := append(header, "hello"...)
		if command == 0x20 { // the peer speaks for itself: its own address, and nothing of what it said
			self := proxyHeader{client: netip.MustParseAddrPort(c.LocalAddr().String()), dest: netip.MustParseAddrPort("127.0.0.1:" + port)}
			raw, err := self.format(2)
			if err != nil {
				t.Fatal(err)
			}
			want = append(raw, "hello"...)
		}
		if raw := <-got; !bytes.Equal(raw, want) {
			t.Errorf("command %#x: the target got %q, want %q", command, raw, want)
		}
	}
}

// checkExtensions holds what was read from a version 2 header against the library, and sends it on.
func checkExtensions(t *testing.T, h proxyHeader, header []byte) {
	t.Helper()
	kept := func(raw []byte) []proxyproto.TLV {
		all, err := proxyproto.SplitTLVs(raw)
		if err != nil {
			t.Fatalf("% x: %v", raw, err)
		}
		return slices.DeleteFunc(all, func(x proxyproto.TLV) bool { return x.Type == 0x03 || x.Type == 0x04 })
	}
	want, got := kept(header[proxyV2Fixed+addressSize(header[13]):]), kept(h.extensions.raw)
	if !slices.EqualFunc(got, want, func(a, b proxyproto.TLV) bool { return a.Type == b.Type && bytes.Equal(a.Value, b.Value) }) {
		t.Errorf("got %v, want %v", got, want)
	}
	raw, err := h.format(2)
	if err != nil {
		t.Fatal(err)
	}
	again, err := readProxyHeader(bytes.NewReader(raw))
	if err != nil || again.client != h.client || again.dest != h.dest {
		t.Fatalf("sent on it is %+v, %v; want %+v", again, err, h)
	}
	if h.client.IsValid() && (!bytes.Equal(again.extensions.raw, h.extensions.raw) || again.extensions.summed != h.extensions.summed) {
		t.Errorf("sent on it says %+v, want %+v", again.extensions, h.extensions)
	}
}
