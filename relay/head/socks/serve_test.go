package socks

import (
	"bytes"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fairlead-net/fairlead/relay/head"
	"github.com/fairlead-net/fairlead/relay/head/headtest"
)

// call connects to a server and says something.
func call(t *testing.T, addr string, said []byte) *net.TCPConn {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(headtest.Patience))
	if _, err := c.Write(said); err != nil {
		t.Fatal(err)
	}
	return c.(*net.TCPConn)
}

// hear reads n bytes.
func hear(t *testing.T, r io.Reader, n int) []byte {
	t.Helper()
	b := make([]byte, n)
	if _, err := io.ReadFull(r, b); err != nil {
		t.Fatal(err)
	}
	return b
}

// answer reads the answer to a request of SOCKS 5, and the address in it.
func answer(t *testing.T, r io.Reader) (code byte, bound netip.AddrPort) {
	t.Helper()
	b := hear(t, r, 4)
	n := addressLen(append(b[3:4:4], 0)) - 1
	tail := hear(t, r, n)
	addr, _ := netip.AddrFromSlice(tail[:n-2])
	return b[1], netip.AddrPortFrom(addr, uint16(tail[n-2])<<8|uint16(tail[n-1]))
}

// request5 is a greeting and a request.
func request5(command byte, to netip.AddrPort) []byte {
	return appendAddress([]byte{5, 1, 0, 5, command, 0}, to)
}

func TestBind(t *testing.T) {
	addr := (&headtest.Server{Head: New()}).Start(t)
	for _, asked := range []string{"127.0.0.1:21", "0.0.0.0:0"} {
		c := call(t, addr, append(request5(cmdBind, netip.MustParseAddrPort(asked)), "ahead "...))
		hear(t, c, 2)
		code, bound := answer(t, c)
		if code != granted5 {
			t.Fatalf("%s: code %d", asked, code)
		}
		c.Write([]byte("of time"))
		peer, err := net.Dial("tcp", bound.String())
		if err != nil {
			t.Fatal(err)
		}
		defer peer.Close()
		code, from := answer(t, c)
		if code != granted5 || from != head.AddrPort(peer.LocalAddr()) {
			t.Errorf("%s: code %d, from %s, want %s", asked, code, from, peer.LocalAddr())
		}
		if got := string(hear(t, peer, 13)); got != "ahead of time" {
			t.Errorf("the peer got %q", got)
		}
		peer.Write([]byte("back"))
		if got := string(hear(t, c, 4)); got != "back" {
			t.Errorf("the client got %q", got)
		}
		if _, err := net.Dial("tcp", bound.String()); err == nil {
			t.Error("the port is still open")
		}
	}
}

func TestBind4(t *testing.T) {
	addr := (&headtest.Server{Head: New()}).Start(t)
	c := call(t, addr, message(t, "04 02 0015 7f000001 00"))
	b := hear(t, c, 8)
	if b[1] != granted4 {
		t.Fatalf("% x", b)
	}
	peer, err := net.Dial("tcp", netip.AddrPortFrom(netip.AddrFrom4([4]byte(b[4:])), uint16(b[2])<<8|uint16(b[3])).String())
	if err != nil {
		t.Fatal(err)
	}
	defer peer.Close()
	if b := hear(t, c, 8); b[1] != granted4 {
		t.Fatalf("% x", b)
	}
	peer.Write([]byte("hello"))
	if got := string(hear(t, c, 5)); got != "hello" {
		t.Errorf("got %q", got)
	}
}

// TestBindTurnsStrangersAway has somebody call whom the client did not name, and then nobody but a client who goes.
func TestBindTurnsStrangersAway(t *testing.T) {
	failed := make(chan error, 1)
	server := &headtest.Server{Head: New(), Ended: func(_ head.Outcome, err error) { failed <- err }}
	c := call(t, server.Start(t), request5(cmdBind, netip.MustParseAddrPort("192.0.2.7:21")))
	hear(t, c, 2)
	_, bound := answer(t, c)
	peer, err := net.Dial("tcp", bound.String())
	if err != nil {
		t.Fatal(err)
	}
	defer peer.Close()
	peer.SetDeadline(time.Now().Add(headtest.Patience))
	if n, err := peer.Read(make([]byte, 1)); n > 0 || errors.Is(err, net.ErrClosed) {
		t.Errorf("a stranger got %d bytes, %v", n, err)
	}
	c.Close()
	if err := <-failed; !errors.Is(err, errClientGone) {
		t.Errorf("ended with %v", err)
	}
}

// associate asks for datagrams, and returns where to send them.
func associate(t *testing.T, addr, asked string) (control *net.TCPConn, bound netip.AddrPort) {
	t.Helper()
	control = call(t, addr, request5(cmdAssociate, netip.MustParseAddrPort(asked)))
	hear(t, control, 2)
	code, bound := answer(t, control)
	if code != granted5 {
		t.Fatalf("code %d", code)
	}
	return control, bound
}

// datagram is what a client sends.
func datagram(fragment byte, to string, payload []byte) []byte {
	return append(appendAddress([]byte{0, 0, fragment}, netip.MustParseAddrPort(to)), payload...)
}

func socket(t *testing.T, local string) *net.UDPConn {
	t.Helper()
	c, err := net.ListenPacket("udp", local)
	if err != nil {
		t.Skip(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(headtest.Patience))
	return c.(*net.UDPConn)
}

func TestAssociate(t *testing.T) {
	for _, family := range []struct {
		name, ip, any string
		plain         bool
	}{{"IPv4", "127.0.0.1", "0.0.0.0:0", false}, {"IPv6", "::1", "[::]:0", false}, {"no socket", "127.0.0.1", "0.0.0.0:0", true}} {
		t.Run(family.name, func(t *testing.T) {
			echo := headtest.EchoPackets(t, family.ip)
			server := &headtest.Server{Head: New(), Local: family.ip, Plain: family.plain, Hosts: map[string]string{"echo.internal": family.ip}}
			control, bound := associate(t, server.Start(t), family.any)
			if bound.Addr().String() != family.ip {
				t.Errorf("bound to %s", bound)
			}
			c := socket(t, net.JoinHostPort(family.ip, "0"))
			buf := make([]byte, bufferSize)
			for _, size := range []int{0, 1, 1400, 60000} {
				payload := bytes.Repeat([]byte{'x'}, size)
				c.WriteToUDPAddrPort(datagram(0, echo, payload), bound)
				n, err := c.Read(buf)
				if err != nil {
					t.Fatal(err)
				}
				if !bytes.Equal(buf[:n], datagram(0, echo, payload)) {
					t.Errorf("%d bytes: got %d back, % x…", size, n, buf[:min(n, 30)])
				}
			}
			// A name, by the same socket; the answer says the address.
			name := append([]byte{0, 0, 0, typeName, 13}, "echo.internal"...)
			name = append(name, appendAddress(nil, netip.MustParseAddrPort(echo))[addressLen([]byte{appendAddress(nil, netip.MustParseAddrPort(echo))[0], 0})-2:]...)
			c.WriteToUDPAddrPort(append(name, "by name"...), bound)
			if n, err := c.Read(buf); err != nil || !bytes.Equal(buf[:n], datagram(0, echo, []byte("by name"))) {
				t.Errorf("by name: %q, %v", buf[:n], err)
			}
			headtest.Eventually(t, "all bytes to be counted", func() bool { return server.In.Load() == 61408 && server.Out.Load() == 61408 })
			control.CloseWrite()
			if _, err := control.Read(buf); err != io.EOF {
				t.Errorf("the control connection ends with %v", err)
			}
		})
	}
}

// TestAssociateDrops sends what is not to be carried, and then what is: only that comes back.
func TestAssociateDrops(t *testing.T) {
	echo := headtest.EchoPackets(t, "127.0.0.1")
	var denied atomic.Bool
	server := &headtest.Server{Head: New(), Deny: func(host string, _ uint16) bool {
		denied.Store(denied.Load() || host == "192.0.2.1")
		return host == "192.0.2.1"
	}}
	control, bound := associate(t, server.Start(t), "0.0.0.0:0")
	control.Write([]byte("what nobody asked for"))
	stranger := socket(t, "127.0.0.2:0") // 127.0.0.2 is not where the client is
	stranger.WriteToUDPAddrPort(datagram(0, echo, []byte("stranger")), bound)
	c, late := socket(t, "127.0.0.1:0"), socket(t, "127.0.0.1:0")
	c.WriteToUDPAddrPort([]byte{0}, bound)
	late.WriteToUDPAddrPort(datagram(0, echo, []byte("another port")), bound)
	c.WriteToUDPAddrPort(datagram(1, echo, []byte("fragment")), bound)
	c.WriteToUDPAddrPort(datagram(0, "192.0.2.1:53", []byte("denied")), bound)
	c.WriteToUDPAddrPort(datagram(0, "127.0.0.1:0", []byte("port 0")), bound)
	c.WriteToUDPAddrPort(datagram(0, echo, []byte("hello")), bound)
	buf := make([]byte, bufferSize)
	n, err := c.Read(buf)
	if err != nil || !bytes.Equal(buf[:n], datagram(0, echo, []byte("hello"))) {
		t.Errorf("got %q, %v", buf[:n], err)
	}
	if !denied.Load() {
		t.Error("nobody asked whether 192.0.2.1 is allowed")
	}
}

// TestAssociateAsked has a client say the port that it sends from.
func TestAssociateAsked(t *testing.T) {
	echo := headtest.EchoPackets(t, "127.0.0.1")
	other, c := socket(t, "127.0.0.1:0"), socket(t, "127.0.0.1:0")
	_, bound := associate(t, (&headtest.Server{Head: New()}).Start(t), c.LocalAddr().String())
	other.WriteToUDPAddrPort(datagram(0, echo, []byte("other")), bound)
	c.WriteToUDPAddrPort(datagram(0, echo, []byte("mine")), bound)
	buf := make([]byte, 100)
	if n, err := c.Read(buf); err != nil || !bytes.Equal(buf[:n], datagram(0, echo, []byte("mine"))) {
		t.Errorf("got %q, %v", buf[:n], err)
	}
}

// TestAssociateEndsWithTheServer leaves associations and BINDs open; Start checks that nothing of them stays.
func TestAssociateEndsWithTheServer(t *testing.T) {
	addr := (&headtest.Server{Head: New()}).Start(t)
	for range 3 {
		associate(t, addr, "0.0.0.0:0")
		c := call(t, addr, request5(cmdBind, netip.MustParseAddrPort("127.0.0.1:0")))
		hear(t, c, 2)
		answer(t, c)
	}
}
