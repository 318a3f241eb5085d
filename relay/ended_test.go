//go:build unix

package relay

import (
	"context"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/fairlead-net/fairlead/node"
	"github.com/fairlead-net/fairlead/node/host"
)

// brokenNode is this host with listeners that can be ended behind the relay's back.
type brokenNode struct {
	*host.Node
	listeners chan *os.File
}

func (b *brokenNode) Listen(ctx context.Context, network, addr string) (net.Listener, error) {
	l, err := b.Node.Listen(ctx, network, addr)
	if err == nil {
		file, _ := l.(*net.TCPListener).File()
		b.listeners <- file
	}
	return l, err
}

func TestListenerThatEnds(t *testing.T) {
	target := serve(t, "tcp", "127.0.0.1:0", echo).String()
	port := freePort(t)
	n := &brokenNode{host.New(), make(chan *os.File, 2)}
	r := startRelayOn(t, n)
	f := fwd(t, "x", port, target)
	apply(t, r, f)
	c := dial(t, "tcp", "127.0.0.1:"+port)
	ask(t, c, "hello")
	file := <-n.listeners
	raw, err := file.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	if err := raw.Control(func(fd uintptr) { _ = syscall.Shutdown(int(fd), syscall.SHUT_RDWR) }); err != nil {
		t.Fatal(err)
	}
	file.Close()
	eventually(t, "the note", func() bool { return strings.Contains(r.Stats()["x"].Note, "tcp/"+port+" ended") })
	apply(t, r, f)
	(<-n.listeners).Close()
	ask(t, dial(t, "tcp", "127.0.0.1:"+port), "hello")
	ask(t, c, "the session went on")
	if note := r.Stats()["x"].Note; note != "" {
		t.Errorf("the note stayed: %s", note)
	}
}

// TestNodeThatIsReplaced declares a node anew: what listened at the former one listens at it with the next Apply, whether or
// not the former one has ended by then.
func TestNodeThatIsReplaced(t *testing.T) {
	target := serve(t, "tcp", "127.0.0.1:0", echo).String()
	port := freePort(t)
	var far atomic.Pointer[brokenNode]
	far.Store(&brokenNode{host.New(), make(chan *os.File, 1)})
	r := start(t, host.New(), Options{Nodes: func(name string) (node.Node, error) {
		if name == "far" {
			return far.Load(), nil
		}
		return host.New(), nil
	}})
	f := fwd(t, "x", port, target)
	f.At = "far"
	apply(t, r, f)
	(<-far.Load().listeners).Close()
	far.Store(&brokenNode{host.New(), make(chan *os.File, 1)})
	apply(t, r, f)
	select {
	case file := <-far.Load().listeners:
		file.Close()
	default:
		t.Fatal("nothing listens at the new node")
	}
	ask(t, dial(t, "tcp", "127.0.0.1:"+port), "hello")
}
