package relay

import (
	"context"
	"net"
	"net/netip"
	"time"

	"github.com/fairlead-net/fairlead/forward"
	"github.com/fairlead-net/fairlead/relay/head"
)

// headTime is how long a client of a dynamic forward has to log in and to say where it goes.
const headTime = 30 * time.Second

// Heads makes the head of a dynamic forward, once for each; nil where this program knows none.
type Heads func(f *forward.Forward) head.Head

// A Login checks a name and a password: nil is right.
type Login func(ctx context.Context, f *forward.Forward, source netip.Addr, name, password string) (forward.User, error)

// serveDynamic has the forward's head find out where the client goes, and carries what is left to carry then. ctx is the
// session's.
//
//	entered ─► the head asks, the errand dials ─► carried, or served by the head to its end ─► left
//	               └─ refused (the head has answered the client in its protocol)
func (r *Relay) serveDynamic(ctx context.Context, s *stream, f *forward.Forward) (handed bool) {
	e := newErrand(r, s, f, s.client)
	_ = s.near.SetDeadline(time.Now().Add(headTime))
	outcome, err := s.head.Serve(ctx, e.client(ctx), e)
	where, reached := e.end()
	if err != nil && outcome.Target != nil {
		reset(outcome.Target)
	}
	if err == nil && outcome.Target != nil {
		err = s.attach(dialled{conn: outcome.Target, where: where}, f, proxyHeader{})
		if err == nil {
			err = e.sendAhead(outcome)
		}
		if err == nil {
			e.Settled()
			return r.carry(ctx, s)
		}
		reset(outcome.Target)
	}
	if err != nil && ctx.Err() == nil {
		r.log.Debug("client of a proxy not served", keyForward, s.task.name, keyClient, s.clientText(), keyTarget, where, keyError, err)
		if !reached {
			s.task.refuse()
		}
	}
	partWith(s.near)
	return false
}

// partWith closes a connection after what was said last has arrived: a client that is refused should learn why.
func partWith(c net.Conn) {
	_ = closeWrite(c)
	drain(c)
	_ = c.Close()
}

// shaped is the connection of a client whose forward has a rate, for a head that moves bytes itself.
type shaped struct {
	net.Conn
	ctx              context.Context //nolint:containedctx // the session's, which ends the waiting for a turn
	upload, download *limit
}

func (c *shaped) Read(p []byte) (int, error) {
	if slice := c.upload.Slice(); slice > 0 && slice < len(p) {
		p = p[:slice]
	}
	n, err := c.Conn.Read(p)
	c.upload.await(c.ctx, int64(n))
	return n, err
}

func (c *shaped) Write(p []byte) (written int, err error) {
	for err == nil && written < len(p) {
		part := p[written:]
		if slice := c.download.Slice(); slice > 0 && slice < len(part) {
			part = part[:slice]
		}
		c.download.await(c.ctx, int64(len(part)))
		var n int
		n, err = c.Conn.Write(part)
		written += n
	}
	return written, err
}

func (c *shaped) CloseWrite() error { return closeWrite(c.Conn) }
