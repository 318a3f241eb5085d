package host_test

import (
	"errors"
	"net"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/fairlead-net/fairlead/internal/netlab"
	"github.com/fairlead-net/fairlead/node"
	"github.com/fairlead-net/fairlead/node/host"
)

// TestConnectFrom takes on a client's address and port, and another port where that one is in use towards the target.
func TestConnectFrom(t *testing.T) {
	lab := netlab.New(t).Node("host")
	for _, c := range []struct{ at, from string }{{"127.0.0.1", "127.0.0.7:4000"}, {"[::1]", "[::1]:4000"}} {
		var targets []netip.AddrPort
		for range 2 {
			ln, err := lab.Listen("tcp", c.at+":0")
			if err != nil {
				t.Fatal(err)
			}
			defer ln.Close()
			targets = append(targets, netip.MustParseAddrPort(ln.Addr().String()))
		}
		from := netip.MustParseAddrPort(c.from)
		for i, test := range []struct {
			to       netip.AddrPort
			samePort bool
		}{{targets[0], true}, {targets[1], true}, {targets[0], false}} {
			seen := connectFrom(t, lab, test.to, from)
			if seen.Addr() != from.Addr() || (seen.Port() == from.Port()) != test.samePort {
				t.Errorf("connection %d from %s to %s came from %s", i+1, from, test.to, seen)
			}
		}
	}
}

// connectFrom returns the address of the socket, which stays open.
func connectFrom(t *testing.T, lab *netlab.Node, to, from netip.AddrPort) (seen netip.AddrPort) {
	t.Helper()
	err := lab.Do(func() error {
		fd, err := host.New().Connect(to, node.ConnectOptions{From: from})
		if err != nil {
			return err
		}
		t.Cleanup(func() { _ = unix.Close(fd) })
		sa, err := unix.Getsockname(fd)
		switch sa := sa.(type) {
		case *unix.SockaddrInet4:
			seen = netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), uint16(sa.Port))
		case *unix.SockaddrInet6:
			seen = netip.AddrPortFrom(netip.AddrFrom16(sa.Addr), uint16(sa.Port))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return seen
}

// TestDialFrom is the same with the means of package net. Datagrams do not share a port: answers would go astray.
func TestDialFrom(t *testing.T) {
	lab := netlab.New(t).Node("host")
	lab.Echo(t, "127.0.0.1:9000")
	from := netip.MustParseAddrPort("192.0.2.7:4000")
	dial := func(network string) net.Conn {
		t.Helper()
		var conn net.Conn
		err := lab.Do(func() (err error) {
			conn, err = host.New().DialFrom(t.Context(), from, network, "127.0.0.1:9000")
			return err
		})
		if err != nil {
			t.Fatalf("%s: %v", network, err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		return conn
	}
	lab.Run(t, "ip", "addr", "add", "192.0.2.7/32", "dev", "lo") // so that answers come back without further ado
	for _, network := range []string{"tcp", "udp"} {
		first, second := dial(network), dial(network)
		if got := first.LocalAddr().String(); got != from.String() {
			t.Errorf("%s: the first came from %s", network, got)
		}
		got := netip.MustParseAddrPort(second.LocalAddr().String())
		if got.Addr() != from.Addr() || got.Port() == from.Port() {
			t.Errorf("%s: the second came from %s", network, got)
		}
	}
}

// TestOtherFamily refuses what no packet can say.
func TestOtherFamily(t *testing.T) {
	four, six := netip.MustParseAddrPort("192.0.2.7:4000"), netip.MustParseAddrPort("[2001:db8::7]:4000")
	for _, c := range []struct{ from, to netip.AddrPort }{{four, six}, {six, four}} {
		if fd, err := host.New().Connect(c.to, node.ConnectOptions{From: c.from}); err == nil {
			_ = unix.Close(fd)
			t.Errorf("connected to %s from %s", c.to, c.from)
		}
		conn, err := host.New().DialFrom(t.Context(), c.from, "tcp", c.to.String())
		if err == nil || errors.As(err, new(*net.AddrError)) {
			t.Errorf("dialled %s from %s: %v, %v", c.to, c.from, conn, err)
		}
	}
}
