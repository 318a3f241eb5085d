package agent

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"time"

	"github.com/fairlead-net/fairlead/node"
	"github.com/fairlead-net/fairlead/tunnel"
)

// dialTime is how long a target may take.
const dialTime = 30 * time.Second

// trips are the streams and flows that the other end had dialled from here.
type trips struct {
	mu  sync.Mutex
	all map[*trip]struct{}
}

// A trip is one of them.
type trip struct {
	call tunnel.Call
	to   net.Addr

	mu   sync.Mutex
	end  func() // ends it, once it is under way
	dead bool
}

func (t *trips) add(one *trip) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.all == nil {
		t.all = map[*trip]struct{}{}
	}
	t.all[one] = struct{}{}
}

func (t *trips) remove(one *trip) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.all, one)
}

// revise ends those that are no longer permitted.
func (t *trips) revise(j Judge) {
	t.mu.Lock()
	var over []*trip
	for one := range t.all {
		if j.Still(one.call, one.to) != nil {
			over = append(over, one)
		}
	}
	t.mu.Unlock()
	for _, one := range over {
		one.kill()
	}
}

func (t *trip) kill() {
	t.mu.Lock()
	t.dead = true
	end := t.end
	t.mu.Unlock()
	if end != nil {
		end()
	}
}

// begin says how the trip is ended from now on.
func (t *trip) begin(end func()) {
	t.mu.Lock()
	t.end = end
	dead := t.dead
	t.mu.Unlock()
	if dead {
		end()
	}
}

// travel dials for the other end, and carries what is said until the end.
func (f *Far) travel(ctx context.Context, s *session, a *tunnel.Arrival) {
	pass, err := f.enter(a.Call)
	if err != nil {
		f.refuse(a, err)
		return
	}
	once := sync.OnceFunc(pass.leave)
	dialing, cancel := context.WithTimeout(ctx, dialTime)
	conn, err := f.o.Judge.Dial(dialing, a.Call)
	cancel()
	if err != nil {
		once()
		f.refuse(a, err)
		return
	}
	t := &trip{call: a.Call, to: conn.RemoteAddr()}
	f.trips.add(t)
	gone := sync.OnceFunc(func() {
		f.trips.remove(t)
		once()
	})
	// It is in the list now: what changes from here on is seen. What has changed before is not.
	if err := f.o.Judge.Still(a.Call, t.to); err != nil || f.current() != s {
		gone()
		_ = conn.Close()
		f.refuse(a, errors.Join(err, node.ErrRefused))
		return
	}
	if f.isQuiet() { // the next process is asked again
		gone()
		_ = conn.Close()
		return
	}
	stream, err := a.Accept(conn.LocalAddr())
	if err != nil {
		gone()
		_ = conn.Close()
		return
	}
	flow := isFlow(a.Network)
	if !flow && f.bear(stream, conn, pass, t, gone) {
		return
	}
	defer gone()
	far := held(stream, Pass{Out: pass.Out, In: pass.In}, flow)
	end := func() {
		_ = far.Close()
		_ = conn.Close()
	}
	t.begin(end)
	stopped := context.AfterFunc(ctx, end)
	defer stopped()
	join(far, conn, flow)
}

func (f *Far) refuse(a *tunnel.Arrival, err error) {
	f.log.Debug("did not dial for the other end", keyNode, f.name(), keyTo, clean(a.Address), keyError, err)
	var said *tunnel.Error
	if !errors.As(answer(err), &said) {
		said = &tunnel.Error{Code: tunnel.Unreachable}
	}
	a.Refuse(said.Code, said.Text)
}

// bear has the stream carry conn's socket, if it can.
func (f *Far) bear(s *tunnel.Stream, conn net.Conn, pass Pass, t *trip, gone func()) bool {
	fd, ok := duplicate(conn)
	if !ok {
		return false
	}
	borne, ok := s.Bear(fd, node.BearOptions{From: pass.Out, To: pass.In, Ended: func(node.Borne) { gone() }})
	if !ok {
		discard(fd)
		return false
	}
	_ = conn.Close() // the duplicate is open
	t.begin(borne.Kill)
	return true
}

// join carries what two connections say to each other until both have ended, and closes them.
func join(a, b net.Conn, flow bool) {
	carry := copyStream
	if flow {
		carry = copyFlow
	}
	var back sync.WaitGroup
	back.Go(func() { carry(a, b) })
	carry(b, a)
	back.Wait()
	_ = a.Close()
	_ = b.Close()
}

// streamBuffer is what one direction is read into, when there is something to read.
const streamBuffer = 32 << 10

var streamBuffers = sync.Pool{New: func() any { b := make([]byte, streamBuffer); return &b }}

// copyStream carries one direction. Its end is passed on alone; when it breaks, both break.
func copyStream(to, from net.Conn) {
	await := awaiting(from)
	err := await()
	for err == nil {
		if err = pass(to, from); err == nil {
			err = await()
		}
	}
	if err != io.EOF {
		reset(to)
		reset(from)
		return
	}
	if half, ok := to.(interface{ CloseWrite() error }); ok && half.CloseWrite() == nil {
		return
	}
	_ = to.Close()
}

// pass carries what there is to be read.
func pass(to, from net.Conn) error {
	buf := streamBuffers.Get().(*[]byte)
	defer streamBuffers.Put(buf)
	n, err := from.Read(*buf)
	if n > 0 {
		if _, err := to.Write((*buf)[:n]); err != nil {
			return err
		}
	}
	return err
}

// reset ends a connection so that the other side does not take it for complete.
func reset(c net.Conn) {
	switch c := c.(type) {
	case *net.TCPConn:
		_ = c.SetLinger(0)
	case interface{ Abort() }:
		c.Abort()
	}
	_ = c.Close()
}
