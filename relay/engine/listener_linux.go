package engine

import (
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// acceptBatch is how many connections a loop takes in before it serves them: the rest is for whichever loop is free first.
const acceptBatch = 8

// A Taker is who decides about a Listener's clients, in the loop that accepted one.
type Taker interface {
	// Wait is how long accepting has to wait for now; 0 is not at all.
	Wait() time.Duration
	// Take is given a client. It returns the stream to begin, or nil when there is none to begin now; the descriptor is then the
	// taker's, to close or to carry.
	Take(l *Loop, fd int, client netip.AddrPort) *Stream
	// AcceptFailed is told of an error, and returns how long to wait before the next try; a negative time ends the listener.
	AcceptFailed(err error) time.Duration
}

// A Listener is a listening socket that every loop accepts from.
type Listener struct {
	engine *Engine
	taker  Taker
	fd     int32
	doors  []*door
	ended  atomic.Bool // by itself
	once   sync.Once
}

// A door is a Listener as one loop has it.
type door struct {
	*Listener
	open  bool
	timer Timer // to open again after a wait
}

// Listen has the taker decide about the clients of a listening socket, which does not block and becomes the Listener's.
func (e *Engine) Listen(fd int, taker Taker) *Listener {
	ln := &Listener{engine: e, taker: taker, fd: int32(fd)}
	for _, l := range e.loops {
		d := &door{Listener: ln}
		ln.doors = append(ln.doors, d)
		l.Post(func() { d.expire(l) })
	}
	return ln
}

// Admit has the taker decide, soon, about a client that was accepted elsewhere.
func (e *Engine) Admit(taker Taker, fd int, client netip.AddrPort) {
	l := e.Loop()
	l.Post(func() {
		if s := taker.Take(l, fd, client); s != nil {
			s.begin(l)
		}
	})
}

// FD is the listening socket, until Close.
func (ln *Listener) FD() int { return int(ln.fd) }

// Close ends accepting and closes the socket. Streams go on. It must not be called in a loop, for which it waits.
func (ln *Listener) Close() {
	if ln.Detach() {
		closeFD(ln.fd)
	}
}

// Detach is Close, but the socket stays open, with the clients that wait in its queue. It reports whether it was attached.
func (ln *Listener) Detach() (was bool) {
	ln.once.Do(func() {
		was = true
		var left sync.WaitGroup
		for i, l := range ln.engine.loops {
			left.Add(1)
			l.Post(func() {
				ln.doors[i].shut(l)
				left.Done()
			})
		}
		left.Wait()
	})
	return was
}

// expire opens the door, again or for the first time.
func (d *door) expire(l *Loop) {
	if d.open || d.ended.Load() {
		return
	}
	d.open = true
	if l.Add(d.fd, unix.EPOLLIN|unix.EPOLLEXCLUSIVE, d) != nil {
		d.open = false
		d.pause(l, time.Second)
	}
}

// shut stops accepting in one loop.
func (d *door) shut(l *Loop) {
	l.timers.clear(&d.timer)
	if d.open {
		l.Remove(d.fd)
		d.open = false
	}
}

// pause stops accepting in one loop for a while: the socket stays readable, and would not let the loop sleep.
func (d *door) pause(l *Loop, wait time.Duration) {
	d.shut(l)
	l.timers.set(&d.timer, d, l.now+int64(max(wait, time.Millisecond)))
}

// Ready takes in clients.
func (d *door) Ready(l *Loop, _ int32, _ uint32) {
	for range acceptBatch {
		if wait := d.taker.Wait(); wait > 0 {
			d.pause(l, wait)
			return
		}
		fd, client, errno := accept(d.fd)
		if errno == unix.EAGAIN {
			return
		}
		if errno != 0 {
			d.failed(l, errno)
			return
		}
		to := d.engine.lighter(l)
		s := d.taker.Take(to, int(fd), client)
		switch {
		case s == nil:
		case to == l:
			s.begin(l)
		default:
			to.Post(func() { s.begin(to) })
		}
	}
}

func (d *door) failed(l *Loop, errno syscall.Errno) {
	if d.ended.Load() {
		d.shut(l)
		return
	}
	wait := d.taker.AcceptFailed(errno)
	if wait < 0 {
		d.ended.Store(true)
		d.shut(l)
		return
	}
	d.pause(l, wait)
}
