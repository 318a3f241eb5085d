package relay

import (
	"bytes"
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/pires/go-proxyproto"

	"github.com/fairlead-net/fairlead/forward"
)

// datagramFor is a datagram with a header, as the library writes it.
func datagramFor(t testing.TB, from, to, payload string, tlvs ...proxyproto.TLV) []byte {
	t.Helper()
	h := proxyproto.HeaderProxyFromAddrs(2, udpAddr(from), udpAddr(to))
	if err := h.SetTLVs(tlvs); err != nil {
		t.Fatal(err)
	}
	raw, err := h.FormatUDPDatagram([]byte(payload))
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func udpAddr(s string) net.Addr { return net.UDPAddrFromAddrPort(netip.MustParseAddrPort(s)) }

// localDatagram has the header of a peer that speaks for itself.
func localDatagram(payload string) []byte {
	return []byte("\r\n\r\n\x00\r\nQUIT\n\x20\x00\x00\x00" + payload)
}

func TestCutDatagramHeader(t *testing.T) {
	overTCP, err := proxyproto.HeaderProxyFromAddrs(2, tcpAddr("192.0.2.1:1000"), tcpAddr("198.51.100.1:53")).FormatUDPDatagram([]byte("x"))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name    string
		in      []byte
		client  string // "" is none
		payload string
		ok      bool
	}{
		{"IPv4", datagramFor(t, "192.0.2.1:1000", "198.51.100.1:53", "x"), "192.0.2.1:1000", "x", true},
		{"IPv6", datagramFor(t, "[2001:db8::1]:1000", "[2001:db8::2]:53", "x"), "[2001:db8::1]:1000", "x", true},
		{"an empty payload", datagramFor(t, "192.0.2.1:1000", "198.51.100.1:53", ""), "192.0.2.1:1000", "", true},
		{"a client of TCP", overTCP, "192.0.2.1:1000", "x", true},
		{"local", localDatagram("x"), "", "x", true},
		{"version 1", append(header(t, 1, "192.0.2.1:1000", "198.51.100.1:53"), 'x'), "", "", false},
		{"cut short", datagramFor(t, "192.0.2.1:1000", "198.51.100.1:53", "")[:20], "", "", false},
		{"none", []byte("x"), "", "", false},
		{"nothing", nil, "", "", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			h, payload, err := cutDatagramHeader(c.in)
			if (err == nil) != c.ok || string(payload) != c.payload {
				t.Fatalf("payload %q, %v", payload, err)
			}
			if got := h.client; got.IsValid() != (c.client != "") || got.IsValid() && got.String() != c.client {
				t.Errorf("the client is %v, want %q", got, c.client)
			}
		})
	}
}

func FuzzCutDatagramHeader(f *testing.F) {
	f.Add(datagramFor(f, "192.0.2.1:1000", "198.51.100.1:53", "x"))
	f.Add(datagramFor(f, "[2001:db8::1]:1000", "[2001:db8::2]:53", "x", proxyproto.TLV{Type: 0xe0, Value: []byte("v")}))
	f.Add(localDatagram("x"))
	f.Fuzz(func(t *testing.T, in []byte) {
		h, payload, err := cutDatagramHeader(in)
		if err != nil {
			return
		}
		if !bytes.HasSuffix(in, payload) || len(payload) > len(in)-proxyV2Fixed {
			t.Errorf("the payload of %q is %q", in, payload)
		}
		if h.client.IsValid() != h.dest.IsValid() {
			t.Errorf("client %v, destination %v", h.client, h.dest)
		}
		if !h.client.IsValid() {
			return
		}
		again, err := headerForDatagrams(h.client, h.dest, h.tlvs)
		if err != nil {
			return // the TLVs are too long
		}
		if h2, rest, err := cutDatagramHeader(append(again, payload...)); err != nil || h2.client != h.client || !bytes.Equal(rest, payload) {
			t.Errorf("passed on as %v, %q, %v", h2.client, rest, err)
		}
	})
}

func TestProxyOverUDP(t *testing.T) { onBothPaths(t, testProxyOverUDP) }

// testProxyOverUDP leads through two forwards, one that sends headers and one that takes them.
func testProxyOverUDP(t *testing.T, r *Relay) {
	target := serveUDP(t, "127.0.0.1:0", "")
	a, b := freePort(t), freePort(t)
	f, g := fwd(t, "a", "udp/"+a, "127.0.0.1:"+b), fwd(t, "b", "udp/127.0.0.1:"+b, target)
	f.SendProxy, g.AcceptProxy = 2, prefixes("127.0.0.1/32")
	apply(t, r, f, g)
	one, two := dial(t, "udp", "127.0.0.1:"+a), dial(t, "udp", "[::1]:"+a)
	for _, c := range []net.Conn{one, two} {
		for _, size := range []int{1, 1400, 60000, 0} {
			text := strings.Repeat("x", size)
			askUDP(t, c, text, text)
		}
	}
	named := map[string]bool{}
	for _, s := range sessionsOf(r) {
		if s.Forward == "b" {
			named[s.Client] = true
		}
	}
	if len(named) != 2 || !named[one.LocalAddr().String()] || !named[two.LocalAddr().String()] {
		t.Errorf("the clients are %v; want %v and %v", named, one.LocalAddr(), two.LocalAddr())
	}
	eventually(t, "the same to be counted by both, without headers", func() bool {
		s := r.Stats()
		return s["a"].BytesIn == s["b"].BytesIn && s["a"].BytesOut == s["b"].BytesOut
	})
}

func TestAcceptProxyOverUDP(t *testing.T) { onBothPaths(t, testAcceptProxyOverUDP) }

func testAcceptProxyOverUDP(t *testing.T, r *Relay) {
	target := serveUDP(t, "127.0.0.1:0", "")
	port := freePort(t)
	f := fwd(t, "x", "udp/127.0.0.1:"+port, target)
	f.AcceptProxy = prefixes("127.0.0.1/32")
	f.MaxPerSource = 1
	apply(t, r, f)
	peer := dial(t, "udp", "127.0.0.1:"+port)
	const dest = "198.51.100.1:53"
	askUDP(t, peer, string(datagramFor(t, "192.0.2.1:1000", dest, "one")), "one")
	askUDP(t, peer, string(datagramFor(t, "192.0.2.2:1000", dest, "two")), "two")
	askUDP(t, peer, string(localDatagram("three")), "three")
	if s := r.Stats()["x"]; s.Open != 3 || s.Refused != 0 {
		t.Fatalf("stats are %+v; want three flows", s)
	}
	_, _ = peer.Write(datagramFor(t, "192.0.2.2:1001", dest, "four"))
	refusedBecomes(t, r, "x", 1) // max_per_source is about the client in the header
	_, _ = peer.Write([]byte("five"))
	refusedBecomes(t, r, "x", 2)

	// Whoever is not trusted cannot speak for others: what looks like a header is payload.
	d := net.Dialer{LocalAddr: udpAddr("127.0.0.2:0")}
	stranger, err := d.Dial("udp", "127.0.0.1:"+port)
	if err != nil {
		t.Fatal(err)
	}
	defer stranger.Close()
	forged := string(datagramFor(t, "192.0.2.9:1000", dest, "six"))
	askUDP(t, stranger, forged, forged)

	// Trust that begins or ends moves the flows.
	g := fwd(t, "x", "udp/127.0.0.1:"+port, target)
	g.AcceptProxy = prefixes("127.0.0.2/32")
	apply(t, r, g)
	askUDP(t, stranger, forged, "six")
	askUDP(t, peer, "bare", "bare")
}

func TestProxyTLVsArePassedOnOverUDP(t *testing.T) { onBothPaths(t, testProxyTLVsArePassedOnOverUDP) }

func testProxyTLVsArePassedOnOverUDP(t *testing.T, r *Relay) {
	got, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer got.Close()
	port := freePort(t)
	f := fwd(t, "x", "udp/127.0.0.1:"+port, got.LocalAddr().String())
	f.AcceptProxy, f.SendProxy = []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}, 2
	apply(t, r, f)
	kept := proxyproto.TLV{Type: proxyproto.PP2_TYPE_MIN_CUSTOM, Value: []byte("tenant")}
	sum := proxyproto.TLV{Type: proxyproto.PP2_TYPE_NOOP, Value: []byte{1, 2, 3, 4}}
	peer := dial(t, "udp", "127.0.0.1:"+port)
	buf := make([]byte, 2048)
	for range 2 { // in front of each datagram
		_, _ = peer.Write(datagramFor(t, "192.0.2.1:1000", "198.51.100.1:53", "x", kept, sum))
		n, _, err := got.ReadFrom(buf)
		if err != nil {
			t.Fatal(err)
		}
		h, payload, err := cutDatagramHeader(buf[:n])
		if err != nil || string(payload) != "x" || h.client.String() != "192.0.2.1:1000" || h.dest.String() != "198.51.100.1:53" {
			t.Fatalf("the target got %+v, %q, %v", h, payload, err)
		}
		if len(h.tlvs) != 1 || h.tlvs[0].Type != kept.Type || string(h.tlvs[0].Value) != "tenant" {
			t.Errorf("the TLVs are %v", h.tlvs)
		}
	}
	if list := sessionsOf(r); len(list) != 1 || list[0].Network != forward.UDP || list[0].Client != "192.0.2.1:1000" {
		t.Errorf("sessions are %+v", list)
	}
}
