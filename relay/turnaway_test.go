package relay

import (
	"context"
	"net"
	"sync/atomic"
	"testing"

	"github.com/fairlead-net/fairlead/node"
	"github.com/fairlead-net/fairlead/node/host"
)

// An abortingNode accepts streams that know a reset, as those of an agent do.
type abortingNode struct {
	node.Node
	aborted *atomic.Int32
}

func (n abortingNode) Listen(ctx context.Context, network, addr string) (net.Listener, error) {
	l, err := n.Node.Listen(ctx, network, addr)
	return abortingListener{l, n.aborted}, err
}

type abortingListener struct {
	net.Listener
	aborted *atomic.Int32
}

func (l abortingListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	return abortingConn{c, l.aborted}, err
}

type abortingConn struct {
	net.Conn
	aborted *atomic.Int32
}

func (c abortingConn) Abort() { c.aborted.Add(1) }

// Where no target answers the peer of a stream has to learn of a reset: after an orderly end its client would believe in an empty answer.
func TestTurnedAwayByAReset(t *testing.T) {
	var aborted atomic.Int32
	r := start(t, abortingNode{host.New(), &aborted}, Options{})
	port, nobody := freePort(t), freePort(t)
	apply(t, r, fwd(t, "x", port, "127.0.0.1:"+nobody))
	dial(t, "tcp", "127.0.0.1:"+port)
	eventually(t, "the client to be turned away", func() bool { return aborted.Load() == 1 && r.Stats()["x"].Refused == 1 })
}
