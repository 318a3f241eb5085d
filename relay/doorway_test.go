package relay

import (
	"context"
	"net"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/fairlead-net/fairlead/node"
	"github.com/fairlead-net/fairlead/node/host"
)

// A refusingNode refuses whoever is dialled, and counts them.
type refusingNode struct {
	node.Node
	dials atomic.Int64
}

func (n *refusingNode) Dial(context.Context, string, string) (net.Conn, error) {
	n.dials.Add(1)
	return nil, syscall.ECONNREFUSED
}

type oneDoor struct{ *refusingNode }

func (oneDoor) OneDoor() {}

// TestOneDoor: a target on this host is sought at both loopback addresses, but not where all addresses are one.
func TestOneDoor(t *testing.T) {
	several, one := &refusingNode{Node: host.New()}, oneDoor{&refusingNode{Node: host.New()}}
	r := start(t, nil, Options{Nodes: func(name string) (node.Node, error) {
		switch name {
		case "several":
			return several, nil
		case "one":
			return one, nil
		}
		return host.New(), nil
	}})
	for name, want := range map[string]int64{"several": 2, "one": 1} {
		f := fwd(t, name, "127.0.0.1:"+freePort(t), ":9")
		f.Via = name
		apply(t, r, f)
		if c, err := net.Dial("tcp", "127.0.0.1:"+f.Listen.Ports.String()); err == nil { // it may be reset before it is there
			if _, err := c.Read(make([]byte, 1)); err == nil {
				t.Errorf("%s: a client gets in", name)
			}
			_ = c.Close()
		}
		eventually(t, "the refusal to be counted", func() bool { return r.Stats()[name].Refused == 1 })
		n := one.refusingNode
		if name == "several" {
			n = several
		}
		if got := n.dials.Load(); got != want {
			t.Errorf("%s: %d were dialled, want %d", name, got, want)
		}
	}
}
