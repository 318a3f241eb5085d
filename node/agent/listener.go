package agent

import (
	"context"
	"fmt"
	"net"

	"github.com/fairlead-net/fairlead/forward"
	"github.com/fairlead-net/fairlead/node"
	"github.com/fairlead-net/fairlead/tunnel"
)

// A listener listens at the other end, whenever there is a session.
type listener struct{ *asking }

var _ node.Stated = listener{}

// Listen returns at once. What it returns listens at the other end whenever there is a session, and says so by State. With port 0
// the other end picks one, and keeps to it; Addr knows it when State is up.
func (f *Far) Listen(ctx context.Context, network, addr string) (net.Listener, error) {
	if isFlow(network) {
		return nil, fmt.Errorf("%s: %w: the network %q", f.name(), node.ErrUnfit, network)
	}
	a, err := f.ask(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	return listener{a}, nil
}

// ListenNamed is Listen for the clients who call a name.
func (f *Far) ListenNamed(ctx context.Context, door forward.Door) (net.Listener, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := door.Check(); err != nil {
		return nil, fmt.Errorf("%s: %w: %w", f.name(), node.ErrUnfit, err)
	}
	network, host := door.Networks.String(), ""
	if door.Addr.IsValid() {
		host = door.Addr.String()
	}
	a, err := f.askFor(network, host, door)
	if err != nil {
		return nil, err
	}
	return listener{a}, nil
}

// Accept returns connections whose RemoteAddr is the client's, as the other end says.
func (l listener) Accept() (net.Conn, error) {
	for {
		select {
		case <-l.closed:
			return nil, l.fail("accept")
		default:
		}
		select {
		case <-l.closed:
			return nil, l.fail("accept")
		case arrival := <-l.queue:
			if c, err := l.far.accept(arrival); err == nil {
				return c, nil
			} // else who came has left
		}
	}
}

func (l listener) fail(op string) error {
	return &net.OpError{Op: op, Net: l.network, Addr: l.Addr(), Err: l.asking.end()}
}

func (l listener) Addr() net.Addr { return net.TCPAddrFromAddrPort(l.where()) }

// Close has the other end close, and waits a moment for that. Connections that were accepted go on.
func (l listener) Close() error {
	if err := l.close(); err != nil {
		return &net.OpError{Op: "close", Net: l.network, Addr: l.Addr(), Err: err}
	}
	return nil
}

// accept lets in who has arrived at a listener.
func (f *Far) accept(a *tunnel.Arrival) (net.Conn, error) {
	pass, err := f.enter(a.Call)
	if err != nil {
		a.Refuse(codeOf(err), clean(plain(err)))
		return nil, err
	}
	s, err := a.Accept(nil)
	if err != nil {
		pass.leave()
		return nil, err
	}
	return held(s, pass, isFlow(a.Network)), nil
}
