package engine

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	eventBatch = 256
	bufferSize = 64 << 10
)

// A Handler is told, in the loop, what has become possible with a descriptor that it added. Events are those of
// epoll_ctl(2), edge-triggered where they were asked for so.
type Handler interface {
	Ready(l *Loop, fd int32, events uint32)
}

// A Loop is one goroutine that waits for any number of descriptors and serves each as far as it can without waiting. What
// belongs to a loop is touched by its goroutine alone; others leave word by Post.
type Loop struct {
	epoll, bell int32
	slots       []slot // by descriptor
	events      [eventBatch]unix.EpollEvent
	now         int64 // of this turn
	timers      timers
	again       []*Stream // that had more to do than their share of a turn
	pipes       pipes
	buf         []byte      // of one read; what does not go out at once is copied from it
	packets     *packetGear // nil until there is a datagram

	mu     sync.Mutex
	mail   []func()
	rung   bool
	load   atomic.Int32 // streams
	ending atomic.Bool
}

// A slot is what a descriptor belongs to. Its generation tells an event of a descriptor that was closed from one of the
// next with the same number.
type slot struct {
	handler    Handler
	generation uint32
}

func newLoop(pipes pipes) (*Loop, error) {
	epoll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("epoll: %w", err)
	}
	bell, err := unix.Eventfd(0, unix.EFD_NONBLOCK|unix.EFD_CLOEXEC)
	if err != nil {
		_ = unix.Close(epoll)
		return nil, fmt.Errorf("eventfd: %w", err)
	}
	l := &Loop{epoll: int32(epoll), bell: int32(bell), pipes: pipes, buf: make([]byte, bufferSize), now: clock()}
	if err := l.Add(l.bell, unix.EPOLLIN|unix.EPOLLET, bellHandler{}); err != nil {
		l.close()
		return nil, err
	}
	return l, nil
}

func (l *Loop) close() {
	l.pipes.drop()
	if l.packets != nil {
		l.packets.drop()
	}
	closeFD(l.epoll)
	closeFD(l.bell)
}

// bellHandler has nothing to do: the letters are read in every turn.
type bellHandler struct{}

func (bellHandler) Ready(*Loop, int32, uint32) {}

var began = time.Now()

// clock is the time since the process began, in nanoseconds; it never goes back.
func clock() int64 { return int64(time.Since(began)) }

// Now is when the loop woke up for what it is doing, on the clock of Timers, in nanoseconds.
func (l *Loop) Now() int64 { return l.now }

// Buffer is scratch space for the handler that is being served.
func (l *Loop) Buffer() []byte { return l.buf }

// Add has the handler told of events of fd, until Remove or until fd is closed after Forget.
func (l *Loop) Add(fd int32, events uint32, h Handler) error {
	for int(fd) >= len(l.slots) {
		l.slots = append(l.slots, make([]slot, max(64, len(l.slots)))...)
	}
	s := &l.slots[fd]
	s.generation++
	s.handler = h
	ev := unix.EpollEvent{Events: events, Fd: fd, Pad: int32(s.generation)}
	if err := unix.EpollCtl(int(l.epoll), unix.EPOLL_CTL_ADD, int(fd), &ev); err != nil {
		s.handler = nil
		return fmt.Errorf("epoll: %w", err)
	}
	return nil
}

// Forget makes the events of fd nobody's. It is enough before a close, which also takes fd out of the kernel's list.
func (l *Loop) Forget(fd int32) {
	if int(fd) >= len(l.slots) {
		return // it was never added
	}
	l.slots[fd].handler = nil
	l.slots[fd].generation++
}

// Remove is Forget for a descriptor that stays open.
func (l *Loop) Remove(fd int32) {
	l.Forget(fd)
	_ = unix.EpollCtl(int(l.epoll), unix.EPOLL_CTL_DEL, int(fd), nil)
}

// Post has the loop call do soon. It may be called from anywhere.
func (l *Loop) Post(do func()) {
	l.mu.Lock()
	l.mail = append(l.mail, do)
	ring := !l.rung
	l.rung = true
	l.mu.Unlock()
	if ring {
		one := [8]byte{1} // any number but zero rings it
		for {
			if _, err := unix.Write(int(l.bell), one[:]); !errors.Is(err, unix.EINTR) {
				return
			}
		}
	}
}

// run serves until stop; then it reads its letters once more, and ends.
func (l *Loop) run() {
	for !l.ending.Load() {
		n := l.wait()
		l.now = clock()
		for i := range l.events[:n] {
			ev := &l.events[i]
			if s := &l.slots[ev.Fd]; s.handler != nil && s.generation == uint32(ev.Pad) {
				s.handler.Ready(l, ev.Fd, ev.Events)
			}
		}
		l.flushPackets()
		l.goOn()
		l.expire()
		l.readMail()
	}
	l.readMail()
}

// wait returns how many events there are, none when a timer is due or the loop was called.
func (l *Loop) wait() int {
	timeout := -1
	if len(l.again) > 0 {
		timeout = 0
	} else if at, ok := l.timers.next(); ok {
		timeout = max(0, int((at-clock()+int64(time.Millisecond)-1)/int64(time.Millisecond)))
	}
	n := l.poll(min(timeout, lightSleep))
	if n == 0 && timeout != 0 {
		n = l.sleep(timeout)
	}
	return n
}

// lightSleep is how long, in milliseconds, a loop may wait without the scheduler's knowledge. To leave and enter the scheduler
// costs more than most waits of a busy loop last; the price is that a garbage collection may have to wait so long for the loop
// (mostly it does not: the signal by which it asks ends epoll_wait), and that the loop keeps its processor of the scheduler's,
// of which New makes one more for each loop.
const lightSleep = 1

func (l *Loop) poll(timeout int) int {
	if timeout < 0 {
		timeout = lightSleep
	}
	n, _, errno := syscall.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(l.epoll), uintptr(unsafe.Pointer(&l.events)), eventBatch, uintptr(timeout), 0, 0)
	if errno != 0 {
		return 0
	}
	return int(n)
}

// sleep waits in the way of every blocking call.
func (l *Loop) sleep(timeout int) int {
	n, err := unix.EpollWait(int(l.epoll), l.events[:], timeout)
	if err != nil && !errors.Is(err, syscall.EINTR) {
		panic("epoll_wait: " + err.Error()) // the loop's own descriptor is bad: nothing can go on
	}
	return max(0, n)
}

// goOn gives another turn to those that had more to do.
func (l *Loop) goOn() {
	if len(l.again) == 0 {
		return
	}
	turn := l.again
	l.again = nil
	for _, s := range turn {
		s.queued = false
		s.goOn(l)
	}
}

func (l *Loop) expire() {
	for {
		at, ok := l.timers.next()
		if !ok || at > l.now {
			return
		}
		t := l.timers[0]
		owner := t.owner
		l.timers.clear(t)
		owner.expire(l)
	}
}

func (l *Loop) readMail() {
	l.mu.Lock()
	mail := l.mail
	l.mail = nil
	if l.rung {
		l.rung = false
		var count [8]byte
		_, _ = read(l.bell, count[:])
	}
	l.mu.Unlock()
	for _, do := range mail {
		do()
	}
}
