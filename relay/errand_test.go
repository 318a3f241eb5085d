package relay

import (
	"net"
	"net/netip"
	"testing"

	"github.com/fairlead-net/fairlead/forward"
	"github.com/fairlead-net/fairlead/node"
	"github.com/fairlead-net/fairlead/node/host"
)

// errandFor is what a head may do for a client that calls f from an address.
func errandFor(t *testing.T, f *forward.Forward, from string) *errand {
	t.Helper()
	r := New(Options{Nodes: func(string) (node.Node, error) { return host.New(), nil }})
	near, far := net.Pipe()
	t.Cleanup(func() { near.Close(); far.Close() })
	s := &stream{near: near}
	s.client, s.local = netip.MustParseAddrPort(from), netip.MustParseAddr("127.0.0.1")
	if err := newTask(f).enter(s, f); err != nil {
		t.Fatal(err)
	}
	return newErrand(r, s, f)
}

// A node may let the world call what was to be its loopback: sshd does with GatewayPorts=yes.
func TestLoginOfThoseWhoCallFromBeyond(t *testing.T) {
	f := fwd(t, "p", "127.0.0.1:1080", "socks")
	f.At = "far"
	if errandFor(t, f, "127.0.0.1:5000").NeedsLogin() {
		t.Error("a client of loopback has to log in")
	}
	if !errandFor(t, f, "203.0.113.9:5000").NeedsLogin() {
		t.Error("a client from beyond does not have to log in")
	}
	f.Anyone = true
	if errandFor(t, f, "203.0.113.9:5000").NeedsLogin() {
		t.Error("anyone has to log in")
	}
}

