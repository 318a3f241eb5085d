package engine

import (
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Sides of a stream.
const (
	Client = 0
	Target = 1
)

const (
	// drainTime bounds how long a reset is held back for bytes that are still on their way to the peer, who would lose them: a
	// server that answers early and resets (413 Content Too Large) is to have its answer read.
	drainTime = time.Second
	drainStep = 2 * time.Millisecond

	// keepaliveAfter is how old a connection is when the loop has the kernel look after it. Most are gone by then.
	keepaliveAfter = 10 * time.Second
)

// An Owner is whom a stream reports to, in its loop.
type Owner interface {
	// Connected says that the target has answered.
	Connected(s *Stream)
	// Failed says that the target could not be reached, and returns the next attempt: a socket whose connect has been started
	// and how long it may take. A negative fd is none; the client is then reset.
	Failed(s *Stream, err error) (fd int, timeout time.Duration)
	// Ended says that both descriptors are closed and nothing more will happen.
	Ended(s *Stream)
}

// A Limit holds a direction to a rate. What is there to be moved is paid for and then waits for its turn, so that a direction
// that waits for data holds no share of the rate.
type Limit interface {
	Slice() int                // how many bytes to move in one turn, 0: as many as there are
	Pay(n int64) time.Duration // for bytes that are about to pass, how long it is until their turn; negative: they do not pass after all
}

// A Stream moves bytes between two connected sockets until both directions have ended.
//
// The end of one direction (FIN) is passed on alone. A connection that dies takes the other one with it, by a reset, after
// what it had sent before has been delivered:
//
//	          ┌──────────── next attempt ──────────┐
//	connecting ──(target answers)──► open ──(both directions have ended)──► closed
//	   └─(no attempt left)─► reset     └─(a side died)─► draining ──(all delivered, or 1 s)──► reset
type Stream struct {
	owner  Owner
	loop   atomic.Pointer[Loop]
	ends   [2]end
	timer  Timer
	idle   int64 // nanoseconds without a byte after which the stream ends, 0: never
	last   int64 // when a byte moved
	until  int64 // when to stop waiting: for the target, or for a side to take what a dead one has sent; 0 is never
	state  state
	broken bool // a side has died: what is left ends by a reset
	queued bool // in Loop.again
	young  bool // the kernel does not look after it yet
	begun  bool
	killed atomic.Bool // by Kill, perhaps before it began
}

type state uint8

const (
	connecting state = iota
	open
	draining
	ended
)

// An end is one of a stream's sockets, and the direction that begins there.
type end struct {
	moved   atomic.Uint64 // bytes from here to the other side
	pending []byte        // read here, and not yet taken by the other side
	pipe    *pipe
	limit   Limit
	resume  int64 // when the limit lets the direction go on, 0: now
	free    uint64
	paid    int32 // bytes that the limit lets pass next
	fd      int32
	flags   flags
}

// flags are what is known of an end.
type flags uint16

const (
	readable flags = 1 << iota // until a read says otherwise
	writable                   // until a write says otherwise
	hangup                     // the peer has sent its FIN, or is gone
	careful                    // a short read does not mean that there is no more
	bulk                       // the last read was large
	splices                    // bytes from here can stay in the kernel
	unixSide                   // not TCP
	deferred                   // connects with its first bytes
	done                       // nothing more comes from here: its end has been passed on
	dead                       // takes nothing more, either
)

// Options are what a Stream needs to know.
type Options struct {
	Owner    Owner
	Loop     *Loop         // of the Taker's client; nil: Engine.Start picks one
	Client   int           // descriptors, which become the stream's; they do not block
	Target   int           // a connect may be under way
	Unix     [2]bool       // which sides are unix sockets
	Timeout  time.Duration // for the connect; 0: the target has answered already
	FastOpen bool          // the connect may wait for the first bytes (TCP_FASTOPEN_CONNECT)
	Idle     time.Duration // 0: forever
	Preamble []byte        // sent to the target first, and not counted
	Limits   [2]Limit      // of the directions that begin at each side; nil: none
	Frozen   *Frozen       // what the stream was in another process
}

// Init makes a stream of zero value ready; it begins when a Listener's taker returns it, or by Engine.Start.
func (s *Stream) Init(o Options) {
	s.owner = o.Owner
	s.loop.Store(o.Loop)
	s.idle = int64(o.Idle)
	s.until = int64(o.Timeout)
	s.state = connecting
	if o.Timeout == 0 {
		s.state = open
	}
	for side, fd := range [2]int{o.Client, o.Target} {
		e := &s.ends[side]
		e.fd, e.limit = int32(fd), o.Limits[side]
		if o.Unix[side] {
			e.flags |= unixSide | careful
		}
		if !o.Unix[1-side] {
			e.flags |= splices // splice(2) is into TCP
		}
	}
	if o.FastOpen {
		s.ends[Target].flags |= deferred
	}
	if len(o.Preamble) > 0 {
		client := &s.ends[Client]
		client.pending, client.free = o.Preamble, uint64(len(o.Preamble))
	}
	if o.Frozen != nil {
		o.Frozen.thaw(s)
	}
}

// Moved is how many bytes have gone from a side to the other one. It may be asked for from anywhere.
func (s *Stream) Moved(side int) uint64 { return s.ends[side].moved.Load() }

// FD is the descriptor of a side, for the owner's use in the loop.
func (s *Stream) FD(side int) int { return int(s.ends[side].fd) }

// Kill resets both sides, soon, or as soon as the stream begins. It may be called from anywhere.
func (s *Stream) Kill() {
	s.killed.Store(true)
	l := s.loop.Load()
	if l == nil {
		return
	}
	l.Post(func() {
		if s.begun && s.state != ended {
			s.broken = true
			s.close(l)
		}
	})
}

// begin puts the stream into its loop.
func (s *Stream) begin(l *Loop) {
	s.last, s.young, s.begun = l.now, true, true
	l.load.Add(1)
	if s.killed.Load() { // while it was on its way to this loop
		s.broken = true
		s.close(l)
		return
	}
	err := s.watch(l, Client)
	if err == nil {
		err = s.watch(l, Target)
	}
	if err != nil {
		s.broken = true
		s.close(l)
		return
	}
	if s.state == connecting {
		l.timers.set(&s.timer, s, l.now+s.until)
		return
	}
	s.opened(l)
}

func (s *Stream) watch(l *Loop, side int) error {
	const all = unix.EPOLLIN | unix.EPOLLOUT | unix.EPOLLRDHUP | unix.EPOLLPRI | unix.EPOLLET&0xffffffff
	return l.Add(s.ends[side].fd, all, s)
}

// opened starts the clocks of an open stream.
func (s *Stream) opened(l *Loop) {
	s.state = open
	s.last, s.until = l.now, 0
	l.timers.set(&s.timer, s, s.nextLook())
}

// nextLook is when an open stream has to be looked at although nothing happens.
func (s *Stream) nextLook() int64 {
	next := int64(-1)
	sooner := func(at int64) {
		if next < 0 || at < next {
			next = at
		}
	}
	if s.young {
		sooner(s.last + int64(keepaliveAfter))
	}
	if s.idle > 0 {
		sooner(s.last + s.idle)
	}
	if s.until > 0 {
		sooner(s.until)
	}
	for i := range s.ends {
		if at := s.ends[i].resume; at > 0 {
			sooner(at)
		}
	}
	return next
}

func (s *Stream) reschedule(l *Loop) {
	if at := s.nextLook(); at >= 0 {
		l.timers.set(&s.timer, s, at)
	} else {
		l.timers.clear(&s.timer)
	}
}

// Ready takes in what has become possible, and goes on.
func (s *Stream) Ready(l *Loop, fd int32, events uint32) {
	side := Client
	if fd == s.ends[Target].fd {
		side = Target
	}
	e := &s.ends[side]
	if events&(unix.EPOLLIN|unix.EPOLLRDHUP|unix.EPOLLHUP|unix.EPOLLERR) != 0 {
		e.flags |= readable
	}
	if events&(unix.EPOLLRDHUP|unix.EPOLLHUP|unix.EPOLLERR) != 0 {
		e.flags |= hangup
	}
	if events&unix.EPOLLPRI != 0 {
		e.flags |= careful // a read stops short at urgent data
	}
	if events&unix.EPOLLOUT != 0 {
		e.flags |= writable
	}
	switch s.state {
	case connecting:
		s.connecting(l, side, events)
	case open:
		if e.flags&done != 0 && events&(unix.EPOLLHUP|unix.EPOLLERR) != 0 && e.flags&unixSide == 0 {
			s.sideDied(side) // it had ended its direction; now it does not take the other one any more
		}
		s.goOn(l)
		if (s.broken || events&unix.EPOLLERR != 0) && s.state == open && s.until == 0 && e.flags&unixSide == 0 {
			s.until = l.now + int64(drainTime) // this side is dead, and the other one does not take what came before
			s.reschedule(l)
		}
	}
}

// connecting sees whether the target has answered, and whether the client is still there.
func (s *Stream) connecting(l *Loop, side int, events uint32) {
	if side == Client {
		if events&unix.EPOLLERR != 0 {
			s.broken = true // nobody waits for the target any more
			s.close(l)
		}
		return
	}
	if events&(unix.EPOLLOUT|unix.EPOLLERR|unix.EPOLLHUP) == 0 {
		return
	}
	if events&(unix.EPOLLERR|unix.EPOLLHUP) != 0 {
		if errno := socketError(s.ends[Target].fd); errno != 0 {
			s.failed(l, errno)
			return
		}
	}
	s.opened(l)
	s.owner.Connected(s)
	if client := &s.ends[Client]; client.flags&readable == 0 && !client.holds() {
		s.connectEmpty()
	}
	s.goOn(l)
	if s.state == open && s.ends[Client].resume > 0 {
		acknowledge(s.ends[Target].fd) // what the client has said waits for its turn
	}
}

// connectEmpty goes on with a handshake that waits for bytes to go with it when there are none: with its last segment, and with
// its first, which TCP Fast Open holds back until a write.
func (s *Stream) connectEmpty() {
	target := &s.ends[Target]
	acknowledge(target.fd)
	if target.flags&deferred == 0 {
		return
	}
	if _, errno := write(target.fd, nil); errno != 0 && errno != unix.EINPROGRESS {
		s.refused(Client, errno)
	}
}

// failed goes on to the next attempt, if the owner has one.
func (s *Stream) failed(l *Loop, err error) {
	e := &s.ends[Target]
	l.Forget(e.fd)
	closeFD(e.fd)
	e.fd = -1
	e.flags &^= readable | writable | hangup
	for {
		fd, timeout := s.owner.Failed(s, err)
		if fd < 0 {
			s.broken = true
			s.close(l)
			return
		}
		e.fd = int32(fd)
		if err = s.watch(l, Target); err == nil {
			l.timers.set(&s.timer, s, l.now+int64(timeout))
			return
		}
		closeFD(e.fd)
		e.fd = -1
	}
}

// expire is called when the stream's timer is due.
func (s *Stream) expire(l *Loop) {
	switch s.state {
	case connecting:
		s.failed(l, syscall.ETIMEDOUT)
	case draining:
		s.drain(l)
	case open:
		if s.until > 0 && l.now >= s.until {
			s.broken = true
			s.close(l)
			return
		}
		if s.idle > 0 && l.now >= s.last+s.idle {
			s.close(l)
			return
		}
		if s.young && l.now >= s.last+int64(keepaliveAfter) {
			s.young = false
			for i := range s.ends {
				if s.ends[i].flags&unixSide == 0 {
					keepAlive(s.ends[i].fd)
				}
			}
		}
		for i := range s.ends {
			if e := &s.ends[i]; e.resume > 0 && l.now >= e.resume {
				e.resume = 0
			}
		}
		s.goOn(l)
		if s.state == open {
			s.reschedule(l)
		}
	}
}

// goOn moves what can be moved now, both ways, and ends the stream when there is nothing left to do.
func (s *Stream) goOn(l *Loop) {
	if s.state != open {
		return
	}
	more := s.pump(l, Client)
	more = s.pump(l, Target) || more
	if s.ends[Client].ended() && s.ends[Target].ended() {
		if s.broken {
			s.until = l.now + int64(drainTime)
			s.state = draining
			s.drain(l)
			return
		}
		s.close(l)
		return
	}
	if more && !s.queued {
		s.queued = true
		l.again = append(l.again, s)
	}
}

// drain waits until both sides' peers have what was sent to them, then resets them.
func (s *Stream) drain(l *Loop) {
	if l.now < s.until {
		for i := range s.ends {
			if e := &s.ends[i]; e.flags&(dead|unixSide) == 0 && unsent(e.fd) > 0 {
				l.timers.set(&s.timer, s, l.now+int64(drainStep))
				return
			}
		}
	}
	s.close(l)
}

// close ends the stream: both sides at once, by a reset when it is broken.
func (s *Stream) close(l *Loop) {
	if s.state == ended {
		return
	}
	s.state = ended
	l.load.Add(-1)
	l.timers.clear(&s.timer)
	for i := range s.ends {
		e := &s.ends[i]
		if e.pipe != nil {
			l.pipes.put(e.pipe)
			e.pipe = nil
		}
		e.settle(0)
		e.pending, e.limit = nil, nil
		if e.fd < 0 {
			continue
		}
		if s.broken && e.flags&(dead|unixSide) == 0 {
			ResetOnClose(int(e.fd), true)
		}
		l.Forget(e.fd)
		closeFD(e.fd)
	}
	s.owner.Ended(s)
}

// keepAlive has the kernel ask after a peer that is silent for long, and give up one that does not acknowledge: after
// about two minutes either way (RFC 9293, section 3.8.4; RFC 5482).
func keepAlive(fd int32) {
	setOption(fd, unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1)
	setOption(fd, unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, 60)
	setOption(fd, unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, 15)
	setOption(fd, unix.IPPROTO_TCP, unix.TCP_KEEPCNT, 4)
	setOption(fd, unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, 120_000)
}
