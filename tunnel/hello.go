package tunnel

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/fairlead-net/fairlead/tunnel/wire"
)

// helloTime is how long an end may take to say hello.
const helloTime = 10 * time.Second

// A Hello is what one end says first on a link.
type Hello struct {
	Session ID
	Resume  bool   // the session has to be there
	Join    bool   // the agent asks to be enrolled, by Secret
	Name    string // of the agent, or of the hub
	Program string // and version
	Secret  string
	Keep    time.Duration // the hub's: how long it keeps a session without a link
}

// String is the id in hexadecimal.
func (id ID) String() string { return hex.EncodeToString(id[:]) }

// Attach has an agent's session go on over a link: it says hello, waits for the hub's, and returns when the link is used. Older links are
// left as soon as the hub has said that it knows of this one. The error is an *Error when the hub refused. A link that was not used
// is closed.
func (s *Session) Attach(ctx context.Context, l Link, h Hello) (Hello, error) {
	h.Session = s.o.ID
	theirs, err := s.attach(ctx, l, h)
	if err != nil {
		_ = l.Close()
	}
	return theirs, err
}

func (s *Session) attach(ctx context.Context, l Link, h Hello) (Hello, error) {
	ctx, cancel := context.WithTimeout(ctx, helloTime)
	defer cancel()
	first, err := l.Open(ctx)
	if err != nil {
		return Hello{}, fmt.Errorf("the first lane: %w", err)
	}
	defer watch(ctx, first)()
	if _, err := first.Write(h.append()); err != nil {
		return Hello{}, late(ctx, err)
	}
	if err := first.Flush(); err != nil {
		return Hello{}, late(ctx, err)
	}
	t, body, rest, err := readGreeting(first)
	if err != nil {
		return Hello{}, late(ctx, err)
	}
	if t == wire.TypeRefuse {
		w, err := wire.ParseWord(t, body)
		if err != nil {
			return Hello{}, err
		}
		return Hello{}, &Error{Code: Code(w.Code), Text: w.Text}
	}
	theirs, err := parseHello(t, body)
	if err != nil {
		return Hello{}, err
	}
	if err := unwatch(ctx, first); err != nil {
		return Hello{}, err
	}
	if theirs.Keep > 0 {
		s.mu.Lock()
		s.keep = theirs.Keep
		s.mu.Unlock()
	}
	_, err = s.join(l, first, rest, nil)
	return theirs, err
}

// watch has ctx interrupt what waits on the lane.
func watch(ctx context.Context, l Lane) (stop func() bool) {
	return context.AfterFunc(ctx, func() {
		_ = l.SetReadDeadline(time.Unix(1, 0))
		_ = l.SetWriteDeadline(time.Unix(1, 0))
	})
}

// unwatch is that the lane is free of ctx, which has not ended.
func unwatch(ctx context.Context, l Lane) error {
	if err := ctx.Err(); err != nil {
		return late(ctx, err)
	}
	return errors.Join(l.SetReadDeadline(time.Time{}), l.SetWriteDeadline(time.Time{}))
}

// late is err, or that it was ctx.
func late(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return fmt.Errorf("the other end did not say hello in time: %w", ctx.Err())
	}
	return err
}

// readGreeting reads the first frame of a lane. The rest is what came with it.
func readGreeting(l Lane) (t wire.Type, body, rest []byte, err error) {
	buf, have := make([]byte, wire.MaxHead+wire.MaxGreeting), 0
	for {
		t, size, n, err := wire.Head(buf[:have], wire.MaxGreeting)
		if err != nil {
			return 0, nil, nil, err
		}
		if have > 0 && wire.Type(buf[0]) != wire.TypeHello && wire.Type(buf[0]) != wire.TypeRefuse {
			return 0, nil, nil, protocolError("the other end does not begin with HELLO")
		}
		if n > 0 && have >= n+size {
			return t, buf[n : n+size], append([]byte(nil), buf[n+size:have]...), nil
		}
		m, err := l.Read(buf[have:])
		switch have += m; {
		case m > 0:
		case err != nil:
			return 0, nil, nil, err
		default: // it would be asked for ever
			return 0, nil, nil, io.ErrNoProgress
		}
	}
}

func (h *Hello) append() []byte {
	w := wire.Hello{
		Lowest: wire.Version, Highest: wire.Version, Session: h.Session, Name: h.Name, Program: h.Program, Secret: h.Secret,
		Keep: uint64(max(0, h.Keep.Milliseconds())),
	}
	if h.Resume {
		w.Flags |= wire.FlagResume
	}
	if h.Join {
		w.Flags |= wire.FlagJoin
	}
	return w.Append(nil)
}

// keepMost is how long a hub may want a session to be kept.
const keepMost = 24 * time.Hour

func parseHello(t wire.Type, body []byte) (Hello, error) {
	if t != wire.TypeHello {
		return Hello{}, protocolError("the other end does not begin with HELLO")
	}
	w, err := wire.ParseHello(body)
	other := w.Lowest > wire.Version || w.Highest < wire.Version
	if other && (err == nil || w.Highest > 0) { // else there may be no versions in it
		return Hello{}, &Error{Code: Version, Text: fmt.Sprintf("this end speaks version %d of the protocol, the other one %d to %d: update the older program",
			wire.Version, w.Lowest, w.Highest)}
	}
	if err != nil {
		return Hello{}, err
	}
	return Hello{
		Session: w.Session, Resume: w.Flags&wire.FlagResume != 0, Join: w.Flags&wire.FlagJoin != 0, Name: w.Name, Program: w.Program,
		Secret: w.Secret, Keep: min(keepMost, time.Duration(min(w.Keep, uint64(keepMost.Milliseconds())))*time.Millisecond),
	}, nil
}

// Receive reads what the agent says first on a link that has just come. It waits 10 s at most. On an error the link is closed, after the
// other end was told if it is of another version.
func Receive(ctx context.Context, l Link) (*Caller, error) {
	c, err := receive(ctx, l)
	if err == nil {
		return c, nil
	}
	var e *Error
	if c != nil && errors.As(err, &e) {
		c.Refuse(e.Code, e.Text)
	} else {
		_ = l.Close()
	}
	return nil, err
}

func receive(ctx context.Context, l Link) (*Caller, error) {
	ctx, cancel := context.WithTimeout(ctx, helloTime)
	defer cancel()
	first, err := l.Accept(ctx)
	if err != nil {
		return nil, fmt.Errorf("the first lane: %w", err)
	}
	defer watch(ctx, first)()
	t, body, rest, err := readGreeting(first)
	if err != nil {
		return nil, late(ctx, err)
	}
	c := &Caller{Link: l, lane: first, rest: rest}
	if c.Hello, err = parseHello(t, body); err != nil {
		return c, err
	}
	return c, unwatch(ctx, first)
}

// A Caller is an agent who has said hello and waits for an answer. One of Refuse and Join is called.
type Caller struct {
	Link  Link
	Hello Hello
	lane  Lane
	rest  []byte
}

// refuseTime is how long a refusal may take to be written.
const refuseTime = time.Second

// Refuse says no, and closes the link.
func (c *Caller) Refuse(code Code, text string) {
	_ = c.lane.SetWriteDeadline(time.Now().Add(refuseTime))
	w := wire.Word{Code: uint64(code), Text: text}
	if _, err := c.lane.Write(w.Append(nil, wire.TypeRefuse)); err == nil {
		_ = c.lane.Flush()
		c.linger()
	}
	_ = c.Link.Close()
}

// linger gives the agent the time to read a refusal: it closes the link when it has.
func (c *Caller) linger() {
	_ = c.lane.SetReadDeadline(time.Now().Add(refuseTime))
	var b [64]byte
	for {
		if _, err := c.lane.Read(b[:]); err != nil {
			return
		}
	}
}

// Join has the hub's session go on over the link, at once or not at all: then the agent is told why, and the link is closed.
func (c *Caller) Join(s *Session, h Hello) error {
	h.Session = s.o.ID
	if h.Keep == 0 {
		h.Keep = s.o.Resume
	}
	_, err := s.join(c.Link, c.lane, c.rest, h.append())
	var e *Error
	if errors.As(err, &e) {
		c.Refuse(e.Code, e.Text)
	}
	return err
}
