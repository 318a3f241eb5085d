package sshchan

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/fairlead-net/fairlead/internal/sshwire"
	"github.com/fairlead-net/fairlead/node"
)

// FastEnds is what is known of a channel of package sshwire besides. Its functions may be called in the loop, and are not to wait
// for anything.
type FastEnds struct {
	Local, Remote net.Addr
	Gone          func()                 // called once, when there is nothing left of the channel
	Carried       func(*sshwire.Carried) // called when a socket is carried; may be nil
}

// A Fast is a channel of package sshwire as a connection that bears sockets.
type Fast struct {
	*sshwire.Channel
	conn   *sshwire.Conn
	ends   FastEnds
	closed atomic.Bool
}

var _ node.Bearer = (*Fast)(nil)

// NewFast wraps an open channel.
func NewFast(conn *sshwire.Conn, channel *sshwire.Channel, ends FastEnds) *Fast {
	channel.WhenGone(ends.Gone)
	return &Fast{Channel: channel, conn: conn, ends: ends}
}

// Read is that of net.Conn. ErrLost is that the connection ended before the channel did.
func (f *Fast) Read(p []byte) (int, error) {
	n, err := f.Channel.Read(p)
	return n, f.explain(err)
}

// Write is that of net.Conn.
func (f *Fast) Write(p []byte) (int, error) {
	n, err := f.Channel.Write(p)
	return n, f.explain(err)
}

// explain tells the end of the connection from that of the channel, as Conn does.
func (f *Fast) explain(err error) error {
	var timeout net.Error
	switch {
	case err == nil || f.closed.Load() || errors.As(err, &timeout) && timeout.Timeout():
		return err
	case f.conn.Err() != nil:
		return fmt.Errorf("%w: %s", ErrLost, err.Error()) // not %w: it may be an ErrClosed, which is not this connection's
	}
	return err
}

// LocalAddr is the one of FastEnds.
func (f *Fast) LocalAddr() net.Addr { return f.ends.Local }

// RemoteAddr is the one of FastEnds.
func (f *Fast) RemoteAddr() net.Addr { return f.ends.Remote }

// Close is that of net.Conn. What was written is still sent.
func (f *Fast) Close() error {
	f.closed.Store(true)
	return f.Channel.Close()
}

// Bear has the loop of the connection carry a socket.
func (f *Fast) Bear(fd int, o node.BearOptions) (node.Borne, bool) {
	return borne{f.Channel.Carry(fd, sshwire.CarryOptions{
		Limits: limitsOf(&o), Idle: o.Idle, Opened: f.ends.Carried,
		Ended: func(ca *sshwire.Carried) { o.Ended(borne{ca}) },
	})}, true
}

// Meet has the loop of the connection connect a socket and carry it, as node.Arrival has it.
func Meet(in *sshwire.Incoming, fd int, o node.MeetOptions, gone func()) node.Borne {
	return borne{in.AcceptCarry(fd, sshwire.CarryOptions{
		Limits: limitsOf(&o.BearOptions), Idle: o.Idle, Connecting: o.Timeout,
		Opened: func(*sshwire.Carried) { o.Connected() }, Failed: o.Failed,
		Ended: func(ca *sshwire.Carried) {
			gone()
			o.Ended(borne{ca})
		},
	})}
}

// limitsOf are the limits of a socket by direction.
func limitsOf(o *node.BearOptions) (limits [2]sshwire.Limit) {
	if o.From != nil {
		limits[sshwire.FromSocket] = o.From
	}
	if o.To != nil {
		limits[sshwire.ToSocket] = o.To
	}
	return limits
}

// borne is what is carried, as the owner of the socket sees it; without a Carried nothing was.
type borne struct{ *sshwire.Carried }

func (b borne) Moved() (from, to uint64) {
	if b.Carried == nil {
		return 0, 0
	}
	return b.Carried.Moved(sshwire.FromSocket), b.Carried.Moved(sshwire.ToSocket)
}

func (b borne) Kill() {
	if b.Carried != nil {
		b.Carried.Kill()
	}
}

// Lead opens a channel for the socket fd and carries it there, as node.Leader has it. explain makes what Failed is told of what
// the far end said, or of context.DeadlineExceeded when that says nothing in time.
func Lead(conn *sshwire.Conn, kind string, payload []byte, fd int, o node.LeadOptions, explain func(error) error, ends FastEnds) node.Borne {
	l := &led{fd: fd, o: o, explain: explain, ends: ends}
	if o.Timeout > 0 {
		l.timer = time.AfterFunc(o.Timeout, l.late)
	}
	ca := conn.OpenChannelCarry(kind, payload, fd, sshwire.CarryOptions{
		Limits: limitsOf(&o.BearOptions), Idle: o.Idle, Opened: l.opened, Failed: l.failed, Ended: l.ended,
	})
	l.carried.Store(ca)
	if l.said.Load() == saidLate {
		ca.Kill()
	}
	return borne{ca}
}

// A led is a socket that a channel is opened for.
type led struct {
	fd      int
	o       node.LeadOptions
	explain func(error) error
	ends    FastEnds
	timer   *time.Timer
	carried atomic.Pointer[sshwire.Carried]
	said    atomic.Int32
}

// What was said of a led: one of Connected and Failed, and the latter by whom.
const (
	saidNothing = iota
	saidConnected
	saidFailed
	saidLate
)

func (l *led) opened(ca *sshwire.Carried) {
	if l.said.CompareAndSwap(saidNothing, saidConnected) {
		if l.ends.Carried != nil {
			l.ends.Carried(ca)
		}
		l.o.Connected()
	}
}

// late is called when the far end has not answered for too long.
func (l *led) late() {
	if !l.said.CompareAndSwap(saidNothing, saidLate) {
		return
	}
	l.o.Failed(l.explain(context.DeadlineExceeded))
	if ca := l.carried.Load(); ca != nil {
		ca.Kill()
	}
}

// failed is called when the far end did not open the channel. The socket is ours again.
func (l *led) failed(err error) (none int, never time.Duration) {
	resetSocket(l.fd)
	if l.said.CompareAndSwap(saidNothing, saidFailed) {
		l.o.Failed(l.explain(Refusal(err)))
	}
	l.ended(nil)
	return -1, 0
}

func (l *led) ended(ca *sshwire.Carried) {
	if l.timer != nil {
		l.timer.Stop()
	}
	l.ends.Gone()
	l.o.Ended(borne{ca})
}

// Refusal has what the far end said of package sshwire's opening of a channel as x/crypto does.
func Refusal(err error) error {
	var refused *sshwire.OpenError
	if errors.As(err, &refused) {
		return &ssh.OpenChannelError{Reason: ssh.RejectionReason(refused.Reason), Message: refused.Text}
	}
	return err
}
