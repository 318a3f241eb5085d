package tunnel

import (
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fairlead-net/fairlead/node"
)

// A poller finds out which sockets can be read or written. It waits in the runtime's own poller, so that it has no thread.
type poller struct {
	s    *Session
	fd   int
	file *os.File
	raw  syscall.RawConn

	// Guarded by the session.
	slots    []slot
	free     []int32
	idle     time.Duration // the shortest of all; 0: there is none
	nextLook time.Duration // for idle ones, since the session began
	stopped  bool
}

// A slot is whose an event is. Its generation tells that of a socket that was closed from that of the next.
type slot struct {
	borne      *borne
	generation int32
}

const pollEvents = unix.EPOLLIN | unix.EPOLLOUT | unix.EPOLLRDHUP | unix.EPOLLPRI | unix.EPOLLET

// Bear takes over a socket: see node.Bearer. A flow bears a connected UDP socket, unless it is to be held to a limit.
func (st *Stream) Bear(fd int, o node.BearOptions) (node.Borne, bool) {
	if st.flow && (limited(o.From) > 0 || limited(o.To) > 0) {
		return nil, false
	}
	s := st.s
	s.mu.Lock()
	defer s.unlock()
	if s.ended || st.err != nil || st.closed || st.closing || st.borne != nil {
		return nil, false
	}
	p, err := s.polling()
	if err != nil {
		s.log.Error("sockets cannot be carried", "error", err)
		return nil, false
	}
	b := &borne{st: st, fd: fd, o: o, state: borneOpen, careful: sysIsUnix(fd), quiet: time.Since(s.began)}
	if !p.watch(b) {
		return nil, false
	}
	st.borne, b.pending, st.in = b, st.in, chunks{}
	st.rd.stop()
	st.wr.stop()
	st.rd, st.wr = nil, nil
	if st.flow {
		for b.pending.first != nil {
			c := b.pending.pop()
			b.takePacket(c.data())
			c.free()
		}
		st.grams = 0
		st.unkeep(st.kept)
		return b, true
	}
	b.drain()
	return b, true
}

// polling is the session's poller, which runs from when it is needed.
func (s *Session) polling() (*poller, error) {
	if s.ended {
		return nil, errEnded // and the poller with it
	}
	if s.poller == nil {
		p, err := newPoller(s)
		if err != nil {
			return nil, err
		}
		s.poller = p
		s.wg.Go(p.run)
	}
	return s.poller, nil
}

func newPoller(s *Session) (*poller, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		_ = unix.Close(fd)
		return nil, os.NewSyscallError("fcntl", err)
	}
	file := os.NewFile(uintptr(fd), "sockets of a session")
	raw, err := file.SyscallConn()
	if err != nil {
		_ = file.Close()
		return nil, err
	}
	return &poller{s: s, fd: fd, file: file, raw: raw}, nil
}

func (p *poller) watch(b *borne) bool {
	if n := len(p.free); n > 0 {
		b.place, p.free = p.free[n-1], p.free[:n-1]
	} else {
		b.place = int32(len(p.slots))
		p.slots = append(p.slots, slot{})
	}
	p.slots[b.place].borne = b
	ev := unix.EpollEvent{Events: pollEvents, Fd: b.place, Pad: p.slots[b.place].generation}
	if err := unix.EpollCtl(p.fd, unix.EPOLL_CTL_ADD, b.fd, &ev); err != nil {
		p.forget(b)
		return false
	}
	if b.o.Idle > 0 && (p.idle == 0 || b.o.Idle < p.idle) {
		p.idle, p.nextLook = b.o.Idle, 0
		p.s.wakeRun()
	}
	return true
}

// forget makes the events of a socket nobody's. It is closed next, which takes it out of the poller.
func (p *poller) forget(b *borne) {
	if b.place < 0 {
		return
	}
	p.slots[b.place].borne = nil
	p.slots[b.place].generation++
	p.free = append(p.free, b.place)
	b.place = -1
}

// release takes a socket out of the poller that stays open.
func (p *poller) release(b *borne) {
	if !p.stopped {
		_ = unix.EpollCtl(p.fd, unix.EPOLL_CTL_DEL, b.fd, nil)
	}
	p.forget(b)
}

// run tells of what has become possible, until the poller is closed.
func (p *poller) run() {
	events := make([]unix.EpollEvent, 128)
	n := 0
	wait := func(fd uintptr) bool {
		n = sysPoll(int(fd), events)
		return n > 0
	}
	for {
		if err := p.raw.Read(wait); err != nil {
			return
		}
		p.s.mu.Lock()
		for i := range events[:n] {
			ev := &events[i]
			if sl := &p.slots[ev.Fd]; sl.borne != nil && sl.generation == ev.Pad {
				sl.borne.ready(ev.Events)
			}
		}
		p.s.unlock()
	}
}

// ready is that something has become possible with the socket.
func (b *borne) ready(events uint32) {
	if b.state == borneOpening && b.meets {
		if events&(unix.EPOLLOUT|unix.EPOLLERR|unix.EPOLLHUP) == 0 {
			return
		}
		if b.attempted(); b.state != borneOpen {
			return
		}
	}
	if events&(unix.EPOLLERR|unix.EPOLLHUP|unix.EPOLLRDHUP) != 0 {
		b.hangup = true
	}
	if events&unix.EPOLLPRI != 0 {
		b.careful = true // a read stops short at urgent data
	}
	if events&(unix.EPOLLIN|unix.EPOLLERR|unix.EPOLLHUP|unix.EPOLLRDHUP) != 0 {
		b.readable = true
		if events&unix.EPOLLERR != 0 && !b.st.flow && (b.state == borneOpen || b.state == borneOpening) && !b.mayRead() && !b.reading && sysSocketError(b.fd) != 0 {
			b.broken()
			return
		}
		b.st.enqueue()
	}
	if events&unix.EPOLLOUT != 0 {
		b.again = true
		if b.pending.size > 0 && !b.st.flow {
			b.drain()
		}
	}
}

// all is the sockets that there are.
func (p *poller) all() []*borne {
	var all []*borne
	for i := range p.slots {
		if b := p.slots[i].borne; b != nil {
			all = append(all, b)
		}
	}
	return all
}

func (p *poller) stop() {
	p.stopped = true
	_ = p.file.Close()
}

// leave takes the socket out of the stream, for another process. It stays open.
func (b *borne) leave() {
	b.state = borneEnded
	b.pending.clear()
	b.st.s.poller.forget(b)
	sysResetOnClose(b.fd, true)
}

// bearAgain has a stream go on with its socket, or resets both.
func (st *Stream) bearAgain(f *FrozenStream, o node.BearOptions, wanted bool) (*borne, error) {
	s := st.s
	p, err := s.polling()
	if !wanted {
		sysReset(f.FD)
		st.reset(Shutdown, errEnded)
		return nil, err
	}
	b := &borne{st: st, fd: f.FD, place: -1, o: o, state: borneOpen, careful: sysIsUnix(f.FD), shut: f.Shut, ended: f.Ended, deaf: f.Deaf}
	b.from.Store(f.Moved[0])
	b.to.Store(f.Moved[1])
	sysResetOnClose(b.fd, false)
	st.borne = b
	b.pending.add(f.Undelivered)
	if err != nil {
		b.broken()
		return b, err
	}
	if !p.watch(b) {
		b.broken()
		return b, nil
	}
	b.drain()
	return b, nil
}

// look ends the sockets with which nothing has happened for too long, and says when to look again.
func (p *poller) look(now time.Duration) time.Duration {
	if p == nil || p.idle == 0 {
		return time.Hour
	}
	if now < p.nextLook {
		return p.nextLook - now
	}
	p.idle = 0
	for i := range p.slots {
		b := p.slots[i].borne
		if b == nil || b.o.Idle == 0 {
			continue
		}
		if b.active || b.held != [2]bool{} || b.state == borneOpening {
			b.active, b.quiet = false, now
		}
		if now-b.quiet >= b.o.Idle {
			b.graceful = b.pending.size == 0
			b.st.reset(Timeout, errEnded)
			b.end()
		} else if p.idle == 0 || b.o.Idle < p.idle {
			p.idle = b.o.Idle
		}
	}
	if p.idle == 0 {
		return time.Hour
	}
	step := min(max(p.idle/8, 5*time.Millisecond), time.Minute)
	p.nextLook = now + step
	return step
}
