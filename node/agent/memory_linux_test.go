package agent_test

import (
	"context"
	"io"
	"net"
	"net/netip"
	"runtime"
	"testing"

	"github.com/fairlead-net/fairlead/forward"
	"github.com/fairlead-net/fairlead/node/agent"
	"github.com/fairlead-net/fairlead/tunnel"
	"github.com/fairlead-net/fairlead/tunnel/tunneltest"
)

func inUse() int {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc + m.StackInuse)
}

// TestIdleStreamsBetweenAgentsHoldNoBuffers: a stream that a hub passes on from one agent to another is read into something only when it says
// something.
func TestIdleStreamsBetweenAgentsHoldNoBuffers(t *testing.T) {
	target, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer target.Close()
	served := make(chan net.Conn, 1)
	go func() {
		for {
			c, err := target.Accept()
			if err != nil {
				return
			}
			served <- c
		}
	}()
	second := connect(t, tunneltest.Options{}, nil)
	isUp(t, second.hub)
	first := connect(t, tunneltest.Options{}, func(far *agent.Options, _ *agent.HubOptions) {
		far.Judge = &agent.Dialler{
			Connect: func(ctx context.Context, client netip.AddrPort, network, addr string) (net.Conn, error) {
				return second.far.DialFor(ctx, client, network, addr)
			},
			Rules: func(tunnel.Call) []forward.Rule { return []forward.Rule{{Host: "*"}} },
		}
	})
	isUp(t, first.hub)
	const n = 200
	var conns []net.Conn
	before := inUse()
	for range n {
		c, err := first.hub.Dial(t.Context(), "tcp", target.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		far := <-served
		conns = append(conns, c, far)
		for _, way := range [][2]net.Conn{{c, far}, {far, c}} {
			if _, err := way[0].Write([]byte("hello")); err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadFull(way[1], make([]byte, 5)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if each := (inUse() - before) / n; each > 40<<10 {
		t.Errorf("%d bytes for each stream", each)
	} else {
		t.Logf("%d bytes for each stream", each)
	}
	for _, c := range conns {
		_ = c.Close()
	}
}
