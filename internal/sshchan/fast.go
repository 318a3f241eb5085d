package sshchan

import (
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

// A Lead is a socket that a channel is opened for.
type Lead struct {
	Conn    *sshwire.Conn
	FD      int
	Options node.LeadOptions
	Ends    FastEnds
	// Open is the channel that leads to an address.
	Open func(network, addr string) (kind string, payload []byte, err error)
	// Explain makes what Failed is told of what the far end said, or of context.DeadlineExceeded when that says nothing in time.
	Explain func(error) error
}

// Start opens the channel and has the loop carry the socket there, as node.Leader has it. kind and payload are those of the channel,
// if the client has not to be asked first.
func (l *Lead) Start(kind string, payload []byte) node.Borne {
	o := sshwire.CarryOptions{
		Limits: limitsOf(&l.Options.BearOptions), Idle: l.Options.Idle, Opening: l.Options.Timeout,
		Opened: l.opened, Failed: l.failed, Ended: l.ended,
	}
	if l.Options.First != nil {
		o.Asking = &sshwire.Asking{Ask: l.ask, Left: l.left, Patience: l.Options.First.Patience}
	}
	return borne{l.Conn.OpenChannelCarry(kind, payload, l.FD, o)}
}

func (l *Lead) ask() (kind string, payload []byte, v sshwire.Verdict) {
	addr, next := l.Options.First.Ask()
	switch next {
	case node.AskAgain:
		return "", nil, sshwire.AskAgain
	case node.Asked:
		var err error
		if kind, payload, err = l.Open("tcp", addr); err == nil {
			return kind, payload, sshwire.OpenNow
		}
	}
	return "", nil, sshwire.Leave
}

func (l *Lead) left() {
	l.Ends.Gone()
	l.Options.First.Left()
}

func (l *Lead) opened(ca *sshwire.Carried) {
	if l.Ends.Carried != nil {
		l.Ends.Carried(ca)
	}
	l.Options.Connected()
}

// failed is called when the far end did not open the channel. The socket is ours again.
func (l *Lead) failed(err error) (none int, never time.Duration) {
	switch {
	case l.Options.First == nil:
		resetSocket(l.FD)
	case l.Conn.Err() != nil: // it has answered nothing
		l.left()
		return -1, 0
	}
	l.Options.Failed(l.Explain(Refusal(err)))
	l.ended(nil)
	return -1, 0
}

func (l *Lead) ended(ca *sshwire.Carried) {
	l.Ends.Gone()
	l.Options.Ended(borne{ca})
}

// Refusal has what the far end said of package sshwire's opening of a channel as x/crypto does.
func Refusal(err error) error {
	var refused *sshwire.OpenError
	if errors.As(err, &refused) {
		return &ssh.OpenChannelError{Reason: ssh.RejectionReason(refused.Reason), Message: refused.Text}
	}
	return err
}
