package sshnode

import (
	"net"

	"golang.org/x/crypto/ssh"

	"github.com/fairlead-net/fairlead/internal/sshchan"
	"github.com/fairlead-net/fairlead/node"
)

// An incoming is a channel that the server has opened for a listener. It is a node.Arrival.
type incoming struct {
	arriving
	link     *link
	listener *listener
	arrival  sshchan.Arrival
}

var _ node.Arrival = (*incoming)(nil)

// handTo hands the channel to a listener: to who greets for it, or to who accepts. nil is nobody.
func (in *incoming) handTo(f *forwarding) {
	if f == nil {
		in.reject(ssh.Prohibited, "nobody listens there")
		return
	}
	l := f.l
	in.listener = l
	if greet := l.greet.Load(); greet != nil && in.meet != nil && !l.isClosed() && (*greet)(in) {
		return
	}
	select {
	case l.queue <- in:
		if l.isClosed() {
			l.drain()
		}
	default:
		in.reject(ssh.ResourceShortage, "too many connections wait")
	}
}

// Greet has greet called for what comes over connections that can meet it.
func (l *listener) Greet(greet func(node.Arrival) bool) { l.greet.Store(&greet) }

// LocalAddr is the address of the listener.
func (in *incoming) LocalAddr() net.Addr { return in.listener.Addr() }

// RemoteAddr is what the server says of the originator: a *net.TCPAddr if it is an IP address.
func (in *incoming) RemoteAddr() net.Addr { return origin(in.arrival) }

// take accepts the channel for goroutines.
func (in *incoming) take() (net.Conn, error) {
	in.link.channels.Add(1)
	c, err := in.accept(in.LocalAddr(), in.RemoteAddr(), in.link.release)
	if err != nil {
		in.link.release()
	}
	return c, err
}

// Meet has the connection carry the socket.
func (in *incoming) Meet(fd int, o node.MeetOptions) node.Borne {
	in.link.channels.Add(1)
	return in.meet(fd, o, in.link.release)
}

// Refuse turns the connection away.
func (in *incoming) Refuse() { in.reject(ssh.Prohibited, "not permitted") }
