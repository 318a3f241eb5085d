package agent

import (
	"net"

	"github.com/fairlead-net/fairlead/node"
	"github.com/fairlead-net/fairlead/tunnel"
)

var _ node.Greeter = listener{}

// Greet has greet called for what comes.
func (l listener) Greet(greet func(node.Arrival) bool) { l.greet.Store(&greet) }

// An incoming is what has come to a listener, before anybody accepts it.
type incoming struct {
	arrival *tunnel.Arrival
	pass    Pass
}

var _ node.Arrival = (*incoming)(nil)

// greets shows what has come to who greets. False: it is there to be accepted.
func (a *asking) greets(arrival *tunnel.Arrival) bool {
	greet := a.greet.Load()
	if greet == nil || a.isShut() {
		return false
	}
	pass, err := a.far.enter(arrival.Call)
	if err != nil {
		return false // who accepts it says so
	}
	if (*greet)(&incoming{arrival, pass}) {
		return true
	}
	pass.leave()
	return false
}

func (a *asking) isShut() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.shutd
}

// LocalAddr is where the client called.
func (in *incoming) LocalAddr() net.Addr { return net.TCPAddrFromAddrPort(in.arrival.Local) }

// RemoteAddr is the client, as the other end says.
func (in *incoming) RemoteAddr() net.Addr { return net.TCPAddrFromAddrPort(in.arrival.Client) }

// Meet has the session carry the socket.
func (in *incoming) Meet(fd int, o node.MeetOptions) node.Borne {
	o.BearOptions = in.pass.over(o.BearOptions)
	return in.arrival.Meet(fd, o)
}

// Refuse turns the connection away.
func (in *incoming) Refuse() {
	in.pass.leave()
	in.arrival.Refuse(tunnel.Refused, "")
}
