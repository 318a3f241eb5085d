package sshchan

import (
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fairlead-net/fairlead/internal/sshwire"
	"github.com/fairlead-net/fairlead/node"
)

// A Fast is a channel of package sshwire as a connection that bears sockets.
type Fast struct {
	*sshwire.Channel
	conn   *sshwire.Conn
	ends   Ends
	closed atomic.Bool
	gone   sync.Once
}

var _ node.Bearer = (*Fast)(nil)

// NewFast wraps an open channel. Ends.Gone is called when it is closed here, or has ended with the socket that it bears.
func NewFast(conn *sshwire.Conn, channel *sshwire.Channel, ends Ends) *Fast {
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

// explain tells the end of the connection from that of the channel.
func (f *Fast) explain(err error) error {
	if err == nil || err == io.EOF || f.closed.Load() || f.conn.Err() == nil {
		return err
	}
	return fmt.Errorf("%w: %s", ErrLost, err.Error()) // not %w: an ErrClosed would be the channel's
}

// LocalAddr is the one of Ends.
func (f *Fast) LocalAddr() net.Addr { return f.ends.Local }

// RemoteAddr is the one of Ends.
func (f *Fast) RemoteAddr() net.Addr { return f.ends.Remote }

// Close is that of net.Conn. What was written is still sent.
func (f *Fast) Close() error {
	f.closed.Store(true)
	f.over()
	return f.Channel.Close()
}

func (f *Fast) over() {
	if f.ends.Gone != nil {
		f.gone.Do(f.ends.Gone)
	}
}

// Bear has the loop of the connection carry a socket.
func (f *Fast) Bear(fd int, o node.BearOptions) (node.Borne, bool) {
	c := carryOptions(o)
	c.Ended = func(ca *sshwire.Carried) {
		f.over()
		o.Ended(borne{ca})
	}
	return borne{f.Channel.Carry(fd, c)}, true
}

func carryOptions(o node.BearOptions) sshwire.CarryOptions {
	c := sshwire.CarryOptions{Idle: o.Idle}
	if o.From != nil {
		c.Limits[sshwire.FromSocket] = o.From
	}
	if o.To != nil {
		c.Limits[sshwire.ToSocket] = o.To
	}
	return c
}

// borne is a socket that is carried, in the words of a node.
type borne struct{ *sshwire.Carried }

func (b borne) Moved() (from, to uint64) {
	return b.Carried.Moved(sshwire.FromSocket), b.Carried.Moved(sshwire.ToSocket)
}

// Lead opens a channel for the socket fd and carries it there, as node.Leader has it. explain makes of what the far end said
// what Failed is told; gone is called at the end in any case.
func Lead(conn *sshwire.Conn, kind string, payload []byte, fd int, o node.LeadOptions, explain func(error) error, gone func()) node.Borne {
	var opened, late atomic.Bool
	c := carryOptions(o.BearOptions)
	c.Opened = func(*sshwire.Carried) {
		opened.Store(true)
		o.Connected()
	}
	ended := func(ca *sshwire.Carried) {
		gone()
		o.Ended(borne{ca})
	}
	c.Ended = func(ca *sshwire.Carried) {
		if late.Load() && !opened.Load() {
			o.Failed(os.ErrDeadlineExceeded)
		}
		ended(ca)
	}
	known := make(chan *sshwire.Carried, 1) // who fails at once does so before there is anything to show
	c.Failed = func(err error) int {
		resetSocket(fd)
		o.Failed(explain(err))
		go func() { ended(<-known) }()
		return -1
	}
	ca := conn.OpenChannelCarry(kind, payload, fd, c)
	known <- ca
	if o.Timeout > 0 {
		time.AfterFunc(o.Timeout, func() {
			if !opened.Load() {
				late.Store(true)
				ca.Kill()
			}
		})
	}
	return borne{ca}
}
