package sshnode

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/fairlead-net/fairlead/node"
	"github.com/fairlead-net/fairlead/node/nodetest"
)

func TestNode(t *testing.T) {
	t.Parallel()
	s := startSSHD(t)
	bothWays(t, func(t *testing.T, o Options) {
		nodetest.Run(t, Caps(), func(t *testing.T) node.Node { return runNode(t, s.spec(), o) })
	})
}

// bothWays runs a test with either implementation of the protocol.
func bothWays(t *testing.T, test func(t *testing.T, o Options)) {
	t.Helper()
	t.Run("fast", func(t *testing.T) { test(t, Options{}) })
	t.Run("plain", func(t *testing.T) { test(t, Options{Sessions: true}) })
}

func TestDial(t *testing.T) {
	t.Parallel()
	bothWays(t, func(t *testing.T, o Options) {
		s := startSSHD(t)
		n := runNode(t, s.spec(), o)
		ctx := t.Context()
		tcp := echoServer(t, "tcp", "127.0.0.1:0")
		unix := echoServer(t, "unix", filepath.Join(t.TempDir(), "s"))
		for _, a := range []net.Addr{tcp, unix} {
			c, err := n.DialFor(ctx, netip.MustParseAddrPort("192.0.2.1:99"), a.Network(), a.String())
			if err != nil {
				t.Fatal(err)
			}
			if c.RemoteAddr().String() != a.String() {
				t.Errorf("RemoteAddr is %s, want %s", c.RemoteAddr(), a)
			}
			echoes(t, c, 5<<20)
			_ = c.Close()
		}
		eventually(t, "no channel is counted", func() bool {
			n.mu.Lock()
			defer n.mu.Unlock()
			return n.links[0].channels.Load() == 0
		})
		for _, c := range []struct {
			network, addr string
			want          error
		}{
			{"tcp", "127.0.0.1:1", node.ErrFar},
			{"unix", "/nonexistent", node.ErrFar},
			{"udp", "127.0.0.1:53", node.ErrUnfit},
		} {
			if _, err := n.Dial(ctx, c.network, c.addr); !errors.Is(err, c.want) {
				t.Errorf("Dial %s %s: %v, want %v", c.network, c.addr, err, c.want)
			}
		}
	})
}

func TestProhibited(t *testing.T) {
	t.Parallel()
	s := startSSHD(t, "AllowTcpForwarding no")
	n := runNode(t, s.spec(), Options{})
	if _, err := n.Dial(t.Context(), "tcp", "127.0.0.1:1"); !errors.Is(err, node.ErrRefused) {
		t.Errorf("%v, want %v", err, node.ErrRefused)
	}
	l, err := n.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	eventually(t, "the listener is refused", func() bool {
		return strings.Contains(l.(node.Stated).State().Why, "refuses to listen on tcp/127.0.0.1:0")
	})
}

func TestAway(t *testing.T) {
	t.Parallel()
	n := runNode(t, &node.SSH{Target: "root@127.0.0.1:1", Agent: "none"}, Options{})
	err := refusal(t, n)
	if !strings.Contains(err.Error(), "127.0.0.1:1: ") {
		t.Error(err)
	}
	if why := n.State().Why; !strings.Contains(why, "refused") || !strings.Contains(why, "next try in ") {
		t.Errorf("Why is %q", why)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	_, err = n.Dial(ctx, "tcp", "127.0.0.1:1")
	if !errors.Is(err, node.ErrAway) || !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "refused") {
		t.Errorf("%v, want %v with the reason", err, node.ErrAway)
	}
}

// A zone is no token, whatever letter it begins with.
func TestHostNameWithPercent(t *testing.T) {
	for name, want := range map[string]string{"fe80::1%%hn0": "fe80::1%hn0", "%h.example": "h.example", "%%h": "%h"} {
		r, err := settle(Query{Host: "h", User: "u"}, node.SSH{}, Resolved{HostName: name})
		if err != nil || r.HostName != want {
			t.Errorf("%s: %s, %v", name, r.HostName, err)
		}
	}
}
