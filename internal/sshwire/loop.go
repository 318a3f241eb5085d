package sshwire

import (
	"context"
	"fmt"
	"sync"
	"time"
)

const (
	eventBatch = 128
	inSize     = 512 << 10
)

// A Loop is one goroutine that serves any number of connections and their sockets, each as far as it can without waiting. What
// belongs to a loop is touched by its goroutine alone; others leave word by post. A Conn that is given none has its own.
type Loop struct {
	epoll, bell int32
	slots       []slot
	free        []int32
	events      [eventBatch]event
	now         int64 // of this turn
	timers      timers
	busy, spare []*Conn // that have to be looked after in this turn
	in          []byte  // of one read from an SSH connection
	buffers     buffers
	run         run // what is being decrypted for one channel
	iov         [maxRun]iovec

	mu    sync.Mutex
	mail  []func()
	awake bool // letters will be read before the next wait
	rung  bool
	ended bool // nothing is read any more
}

// A slot is what a descriptor belongs to. Its generation tells an event of a descriptor that was closed from one of the next.
type slot struct {
	handler    handler
	generation int32
}

type handler interface{ ready(events uint32) }

// NewLoop makes a loop for several connections. It has to be Run, or its descriptors stay open.
func NewLoop() (*Loop, error) {
	if err := supported(); err != nil {
		return nil, err
	}
	epoll, bell, err := sysEpoll()
	if err != nil {
		return nil, fmt.Errorf("epoll: %w", err)
	}
	l := &Loop{epoll: epoll, bell: bell, now: clock()}
	if _, err := l.watch(bell, bellHandler{}); err != nil {
		l.close()
		return nil, err
	}
	return l, nil
}

// Run serves until ctx ends. The connections that are left by then are closed.
func (l *Loop) Run(ctx context.Context) error {
	stop := false
	defer context.AfterFunc(ctx, func() { l.post(func() { stop = true }) })()
	l.serve(func() bool { return stop })
	return ctx.Err()
}

// serve serves until done says so, and closes the loop.
func (l *Loop) serve(done func() bool) {
	l.in = make([]byte, inSize)
	for !done() {
		n := l.wait()
		l.now = clock()
		l.mu.Lock()
		l.awake = true
		l.mu.Unlock()
		for i := range l.events[:n] {
			ev := &l.events[i]
			if s := &l.slots[ev.Fd]; s.handler != nil && s.generation == ev.Pad {
				s.handler.ready(ev.Events)
			}
		}
		l.expire()
		l.readMail()
		l.goOn()
	}
	l.mu.Lock()
	l.ended = true
	l.mu.Unlock()
	l.readMail()
	for i := range l.slots {
		if c, ok := l.slots[i].handler.(*Conn); ok {
			c.die(ErrClosed)
		}
	}
	for i := range l.slots {
		switch h := l.slots[i].handler.(type) {
		case *Carried:
			h.end(true) // there is nobody to wait for its application
		case *Door:
			h.shut()
		}
	}
	l.close()
}

// abandon closes a loop that was never run.
func (l *Loop) abandon() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.ended {
		l.ended = true
		l.close()
	}
}

func (l *Loop) close() {
	sysClose(l.epoll)
	sysClose(l.bell)
}

// bellHandler has nothing to do: the letters are read in every turn.
type bellHandler struct{}

func (bellHandler) ready(uint32) {}

var began = time.Now()

// clock is the time since the process began, in nanoseconds; it never goes back.
func clock() int64 { return int64(time.Since(began)) }

// watch has the handler told of all events of fd, until forget.
func (l *Loop) watch(fd int32, h handler) (place int32, err error) {
	if n := len(l.free); n > 0 {
		place, l.free = l.free[n-1], l.free[:n-1]
	} else {
		place = int32(len(l.slots))
		l.slots = append(l.slots, slot{})
	}
	s := &l.slots[place]
	s.handler = h
	if err := sysWatch(l.epoll, fd, place, s.generation); err != nil {
		l.forget(place)
		return -1, fmt.Errorf("epoll: %w", err)
	}
	return place, nil
}

// forget makes the events of a descriptor nobody's. It is closed next.
func (l *Loop) forget(place int32) {
	s := &l.slots[place]
	s.handler = nil
	s.generation++
	l.free = append(l.free, place)
}

// post has the loop call do soon, and reports whether it will. It may be called from anywhere.
func (l *Loop) post(do func()) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended {
		return false
	}
	l.mail = append(l.mail, do)
	if !l.rung && !l.awake {
		l.rung = true
		sysRing(l.bell)
	}
	return true
}

func (l *Loop) readMail() {
	l.mu.Lock()
	mail := l.mail
	l.mail, l.awake = nil, false
	if l.rung {
		l.rung = false
		var count [8]byte
		_, _ = sysRead(l.bell, count[:])
	}
	l.mu.Unlock()
	for _, do := range mail {
		do()
	}
}

// wait returns how many events there are, none when a timer is due or the loop was called.
func (l *Loop) wait() int {
	timeout := -1
	if len(l.busy) > 0 {
		timeout = 0
	} else if len(l.timers) > 0 {
		timeout = max(0, int((l.timers[0].at-clock()+int64(time.Millisecond)-1)/int64(time.Millisecond)))
	}
	n := sysPoll(l.epoll, l.events[:]) // most often there is something, and the scheduler need not know
	if n == 0 && timeout != 0 {
		n = sysSleep(l.epoll, l.events[:], timeout)
	}
	return n
}

func (l *Loop) expire() {
	for len(l.timers) > 0 && l.timers[0].at <= l.now {
		t := l.timers[0]
		owner := t.owner
		l.timers.clear(t)
		owner.expire()
	}
}

// goOn ends the turn of each connection for which there was something to do.
func (l *Loop) goOn() {
	turn := l.busy
	l.busy, l.spare = l.spare[:0], turn
	for _, c := range turn {
		c.busy = false
		c.turn()
	}
}

// buffers are what packets go out from. A connection has one only while there is something to send.
type buffers struct{ free [][]byte }

const (
	outSize = 1 << 20
	outKept = 2 // buffers that nobody uses
)

func (b *buffers) take() []byte {
	if n := len(b.free); n > 0 {
		buffer := b.free[n-1]
		b.free = b.free[:n-1]
		return buffer
	}
	return make([]byte, 0, outSize)
}

func (b *buffers) give(buffer []byte) {
	if cap(buffer) >= outSize && cap(buffer) <= 2*outSize && len(b.free) < outKept {
		b.free = append(b.free, buffer[:0])
	}
}
