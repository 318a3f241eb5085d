package tunnel

import (
	"errors"
	"fmt"
	"runtime"
	"slices"
	"time"

	"github.com/fairlead-net/fairlead/node"
	"github.com/fairlead-net/fairlead/tunnel/wire"
)

// FrozenFormat is the version of Frozen: a process takes what one of the same version leaves.
const FrozenFormat = 1

// A Frozen is a session that another process goes on with. It is plain data, for any encoding, beside descriptors that stay open.
type Frozen struct {
	Side    Side
	ID      ID
	Peer    Key
	Keep    time.Duration
	Next    uint64 // stream of this end
	NextAsk uint64
	Theirs  FrozenSeen
	Asked   FrozenSeen
	Replies map[uint64][]byte // frames
	Streams []FrozenStream
	In, Out uint64
	Resumed int
}

// A FrozenSeen is which numbers were used: all below, and some above.
type FrozenSeen struct {
	Below uint64
	Above []uint64
}

// A FrozenStream is one stream. Those that carry no socket cannot go on: what they have left to say is that they end.
type FrozenStream struct {
	Number uint64
	Call   Call
	At     string
	Ours   bool
	Over   bool // the other end has nothing more to do with it, and the socket has yet to take what came

	Reset   bool // RESET with Code was said, or is to be
	Refused bool // ANSWER with Code and Text was
	Code    Code
	Text    string

	Acked, End, Limit   uint64
	Unsent              []byte // from OutFrom on to End: what the other end may not have
	OutFrom             uint64
	Closing, FinAcked   bool
	Taken, Got, Granted uint64
	Undelivered         []byte // from Taken on to Got
	FinGot              bool
	Window              int
	FD                  int // -1: it carries no socket
	Shut, Ended, Deaf   bool
	Moved               [2]uint64
}

// Descriptors is every descriptor that f speaks of.
func (f *Frozen) Descriptors() []int {
	var fds []int
	for i := range f.Streams {
		if fd := f.Streams[i].FD; fd >= 0 {
			fds = append(fds, fd)
		}
	}
	return fds
}

// Renumber has f speak of other descriptors, given in the order of Descriptors: the same sockets by the numbers that they
// have in another process.
func (f *Frozen) Renumber(fds []int) error {
	if want := len(f.Descriptors()); want != len(fds) {
		return fmt.Errorf("there are %d descriptors, and %d are spoken of", len(fds), want)
	}
	for i := range f.Streams {
		if s := &f.Streams[i]; s.FD >= 0 {
			s.FD, fds = fds[0], fds[1:]
		}
	}
	return nil
}

// A Numbered is a node.Borne of a session. By its number it is known again after Freeze and Thaw.
type Numbered interface {
	node.Lasting
	Session() ID
	Number() uint64
}

// Ticket is how a socket is called that a stream of a session carries, before Freeze and after Thaw. The key of the other end is in it because an agent
// chooses the id of its session, and might choose that of another one's.
func Ticket(peer Key, session ID, number uint64) string {
	return fmt.Sprintf("%x/%x/%d", peer[:], session[:], number)
}

var _ Numbered = (*borne)(nil)

// Session is that of Numbered.
func (b *borne) Session() ID { return b.st.s.o.ID }

// Number is that of Numbered.
func (b *borne) Number() uint64 { return b.st.id }

// Ticket is that of node.Lasting.
func (b *borne) Ticket() string {
	s := b.st.s
	s.mu.Lock()
	defer s.mu.Unlock()
	return Ticket(s.peer, s.o.ID, b.st.id)
}

var errFrozen = errors.New("the session goes on in another process")

// restarted is what those are told who wait for something that was only in the memory of this process.
const restarted = "the program was restarted meanwhile"

// Freeze ends the session in this process without a word to the other end, which will take the next process for this one: what
// it returns has all that is needed for Thaw. Sockets that streams carry are in it as descriptors; nobody is told that they have ended, and who
// closes them resets them. It waits until Run has returned.
func (s *Session) Freeze() (*Frozen, error) {
	s.mu.Lock()
	if s.ended {
		s.mu.Unlock()
		return nil, errEnded
	}
	s.ended, s.frozen, s.cause = true, true, errFrozen
	s.setState(false, errFrozen.Error())
	for _, q := range s.asks {
		q.finish(nil, errFrozen)
	}
	links := slices.Clone(s.links)
	close(s.done)
	s.mu.Unlock()
	for _, a := range links {
		a.fail(errFrozen)
	}
	<-s.stopped
	s.mu.Lock()
	defer s.unlock()
	for s.isWriting() { // a timer, for a moment
		s.unlock()
		runtime.Gosched()
		s.mu.Lock()
	}
	return s.freeze(), nil
}

// isWriting reports whether somebody writes to a socket now.
func (s *Session) isWriting() bool {
	return s.poller != nil && slices.ContainsFunc(s.poller.all(), func(b *borne) bool { return b.writing })
}

func (s *Session) freeze() *Frozen {
	asked := s.forgetUnanswered()
	f := &Frozen{
		Side: s.o.Side, ID: s.o.ID, Peer: s.peer, Keep: s.keep, Next: s.next, NextAsk: s.nextAsk, Theirs: s.theirs.freeze(), Asked: s.asked.freeze(),
		Replies: map[uint64][]byte{}, In: s.in, Out: s.out, Resumed: s.resumed,
	}
	for n, frame := range s.replies {
		if frame == nil {
			w := wire.Reply{Number: n, Code: uint64(Shutdown), Text: restarted}
			frame = w.Append(nil)
		}
		f.Replies[n] = frame
	}
	for _, st := range s.streams {
		f.Streams = append(f.Streams, st.freeze())
	}
	for _, st := range append(asked, s.waiting...) {
		st.fail(errFrozen)
	}
	for _, st := range s.streams {
		st.fail(errFrozen)
	}
	if s.poller != nil {
		for _, b := range s.poller.all() {
			if b.st.over && b.state == borneOpen {
				f.Streams = append(f.Streams, b.st.freeze())
			} else {
				b.end() // by a reset, which is what it was about to come to
			}
		}
	}
	return f
}

// forgetUnanswered forgets the streams that the other end has opened and got no answer for: it opens them again with the next link,
// and they are new to the process that takes that. They are returned.
func (s *Session) forgetUnanswered() (all []*Stream) {
	for id, st := range s.streams {
		if !st.ours && !st.answered && st.err == nil && st.got == 0 && !st.finGot && s.theirs.remove(id/2) {
			delete(s.streams, id)
			all = append(all, st)
		}
	}
	return all
}

func (st *Stream) freeze() FrozenStream {
	f := FrozenStream{Number: st.id, Call: st.call, At: st.at, Ours: st.ours, FD: -1, Over: st.over}
	b := st.borne
	switch {
	case st.refusal != nil:
		f.Refused, f.Code, f.Text = true, Code(st.refusal.Code), st.refusal.Text
		return f
	case st.resetting:
		f.Reset, f.Code = true, st.resetCode
		return f
	case !st.ours && !st.answered:
		f.Refused, f.Code, f.Text = true, Shutdown, restarted
		return f
	case b == nil && st.closing && st.finGot: // nobody has to do anything for it any more
	case b == nil || b.state == borneDraining || b.state == borneOpening || st.err != nil || !st.answered:
		f.Reset, f.Code = true, Shutdown
		return f
	}
	f.Acked, f.End, f.Limit = st.acked, st.end, st.limit
	f.OutFrom = st.end
	if c := st.out.first; c != nil {
		f.OutFrom = c.offset
		f.Unsent = make([]byte, 0, st.out.size)
		for ; c != nil; c = c.next {
			f.Unsent = append(f.Unsent, c.data()...)
		}
	}
	f.Closing, f.FinAcked, f.FinGot = st.closing, st.finAcked, st.finGot
	f.Taken, f.Got, f.Granted, f.Window = st.taken, st.got, st.granted, st.window
	if b != nil && b.state == borneOpen {
		for c := b.pending.first; c != nil; c = c.next {
			f.Undelivered = append(f.Undelivered, c.data()...)
		}
		f.FD, f.Shut, f.Ended, f.Deaf = b.fd, b.shut, b.ended, b.deaf
		f.Moved = [2]uint64{b.from.Load(), b.to.Load()}
		b.leave()
	}
	return f
}

// Thaw makes the session that Freeze has left. adopt says, for each stream that carries a socket, who it belongs to; one that it does
// not want is reset. The sockets are carried from now on, and returned with their numbers. What BearOptions.Ended is for one that ends before Thaw
// returns, it is called all the same.
func Thaw(o Options, f *Frozen, adopt func(number uint64, c Call) (node.BearOptions, bool)) (*Session, []Numbered, error) {
	if o.Side != f.Side || o.ID != f.ID {
		return nil, nil, errors.New("the session that was frozen is another one")
	}
	s := New(o)
	s.mu.Lock()
	defer s.unlock()
	s.peer, s.keep, s.next, s.nextAsk = f.Peer, f.Keep, f.Next, f.NextAsk
	s.theirs, s.asked = f.Theirs.thaw(), f.Asked.thaw()
	s.in, s.out, s.resumed, s.thawed = f.In, f.Out, f.Resumed, true
	s.state.Why = restarted
	for n, frame := range f.Replies {
		s.replies[n] = frame
	}
	var all []Numbered
	var failed error
	for i := range f.Streams {
		st := s.thaw(&f.Streams[i])
		if f.Streams[i].FD < 0 {
			continue
		}
		o, wanted := adopt(st.id, st.call)
		b, err := st.bearAgain(&f.Streams[i], o, wanted)
		if failed = errors.Join(failed, err); b != nil && wanted {
			all = append(all, b)
		}
	}
	return s, all, failed
}

func (s *Session) thaw(f *FrozenStream) *Stream {
	st := &Stream{
		s: s, id: f.Number, call: f.Call, at: f.At, ours: f.Ours, flow: isPackets(f.Call.Network), answered: true,
		acked: f.Acked, end: f.OutFrom, limit: f.Limit, closing: f.Closing, finAcked: f.FinAcked,
		taken: f.Taken, got: f.Got, granted: f.Granted, finGot: f.FinGot, window: max(f.Window, windowLeast),
	}
	if st.over = f.Over; st.over {
		return st
	}
	s.streams[st.id] = st
	if !st.ours {
		s.foreign++
	}
	if st.flow {
		s.flows++
	}
	s.grown += max(0, st.window-windowFirst)
	switch {
	case f.Refused:
		st.refusal = &wire.Answer{Stream: st.id, Code: uint64(f.Code), Text: f.Text}
		st.err = errEnded
	case f.Reset:
		st.resetting, st.resetCode, st.err = true, f.Code, errEnded
	default:
		out := s.out
		st.put(f.Unsent)
		s.out = out // it was counted
	}
	return st
}

func (s *seen) freeze() FrozenSeen {
	f := FrozenSeen{Below: s.below}
	for n := range s.above {
		f.Above = append(f.Above, n)
	}
	return f
}

func (f *FrozenSeen) thaw() seen {
	s := seen{below: f.Below}
	for _, n := range f.Above {
		s.add(n)
	}
	return s
}
