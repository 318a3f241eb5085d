package engine

import (
	"net/netip"
	"strconv"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	// packetRounds is how many full batches a socket takes before others get their turn.
	packetRounds = 4

	// Receive buffers in bytes, where the system allows them: what a burst may bring while the loop serves others. The kernel
	// takes memory only for what waits in them.
	listenerBuffer = 4 << 20
	connBuffer     = 1 << 20

	// fewLoops is how many loops are so few that a client's and its target's datagrams are best carried by the same one: it
	// wakes up less often and finds more at once, which is worth more than a second processor that others want, too.
	fewLoops = 2
)

// A Packet is a datagram, or several from one sender to one address that the kernel has put together (udp(7), UDP_GRO).
type Packet struct {
	Data    []byte
	Segment int        // bytes of each datagram but the last, which may be shorter; 0: Data is one datagram
	ECN     uint8      // RFC 3168, section 5: the two bits
	From    *Address   // the sender; good as long as Data is
	Local   netip.Addr // this host's address that it came to; not valid where the socket has one address alone
}

// Each calls do for every datagram in p, in order.
func (p *Packet) Each(do func(data []byte)) {
	rest := p.Data
	for p.Segment > 0 && len(rest) > p.Segment {
		do(rest[:p.Segment:p.Segment])
		rest = rest[p.Segment:]
	}
	do(rest)
}

// An Address is a socket's address as the kernel writes it.
type Address struct {
	raw  [unix.SizeofSockaddrInet6]byte
	size uint8
}

// AddrPort is the address with IPv4 in IPv6 as IPv4. The zone of a link-local address (RFC 4007) is a number, which is
// found without asking the system.
func (a *Address) AddrPort() netip.AddrPort {
	sa := (*unix.RawSockaddr)(unsafe.Pointer(&a.raw))
	if sa.Family != unix.AF_INET6 {
		in := (*unix.RawSockaddrInet4)(unsafe.Pointer(sa))
		return netip.AddrPortFrom(netip.AddrFrom4(in.Addr), bigEndian(in.Port))
	}
	in := (*unix.RawSockaddrInet6)(unsafe.Pointer(sa))
	ip := netip.AddrFrom16(in.Addr).Unmap()
	if in.Scope_id != 0 {
		ip = ip.WithZone(strconv.FormatUint(uint64(in.Scope_id), 10))
	}
	return netip.AddrPortFrom(ip, bigEndian(in.Port))
}

// Bytes is the address as AddressOf reads it.
func (a *Address) Bytes() []byte { return a.raw[:a.size] }

// AddressOf is what Bytes wrote.
func AddressOf(b []byte) (a Address) {
	a.size = uint8(copy(a.raw[:], b))
	return a
}

// is6 reports whether datagrams to the address go by IPv6: not those to an IPv4 address in IPv6.
func (a *Address) is6() bool {
	in := (*unix.RawSockaddrInet6)(unsafe.Pointer(&a.raw))
	return in.Family == unix.AF_INET6 && !netip.AddrFrom16(in.Addr).Is4In6()
}

// Named is a with the interface's name in the place of its number.
func Named(a netip.AddrPort) netip.AddrPort {
	index, err := strconv.ParseUint(a.Addr().Zone(), 10, 32)
	if err != nil {
		return a
	}
	return netip.AddrPortFrom(withZone(a.Addr(), uint32(index)), a.Port())
}

// packetSocket is the descriptor of a UDP socket. It is read in one loop and written in any, so it is closed under a lock.
type packetSocket struct {
	mu     sync.RWMutex
	fd     int32 // -1: closed; written in the loop that reads
	v6peer bool  // of a connected socket
}

// Duplicate is another descriptor of the socket, for another process. It may be called from anywhere.
func (s *packetSocket) Duplicate() (int, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.fd < 0 {
		return -1, unix.EBADF
	}
	return unix.FcntlInt(uintptr(s.fd), unix.F_DUPFD_CLOEXEC, 0)
}

func (s *packetSocket) close(l *Loop) {
	if int(s.fd) < len(l.slots) {
		l.Forget(s.fd)
	}
	s.mu.Lock()
	closeFD(s.fd)
	s.fd = -1
	s.mu.Unlock()
}

// A PacketTaker is who decides about what arrives at a PacketListener, in its loop.
type PacketTaker interface {
	// Received is given datagrams, which are good until it returns.
	Received(l *Loop, packets []Packet)
	// ReceiveFailed is told of an error, and returns how long to wait before the next try; a negative time ends the listener.
	ReceiveFailed(err error) time.Duration
}

// A PacketListener is a UDP socket that takes datagrams from anybody.
type PacketListener struct {
	packetSocket
	loop  *Loop
	taker PacketTaker
	timer Timer
	open  bool
	ended bool // by itself
	v6    bool // its addresses are IPv6 ones, those of IPv4 included
	told  bool // the kernel says which address a datagram came to
	once  sync.Once
}

// PacketListener makes a listener of a UDP socket, which does not block and becomes the listener's; it receives after Start.
// wildcard says that it takes what comes to any address of this host.
func (e *Engine) PacketListener(fd int, wildcard bool) *PacketListener {
	ln := &PacketListener{loop: e.Loop()}
	ln.fd = int32(fd)
	ln.v6 = domain(ln.fd) == unix.AF_INET6
	ln.told = wildcard && askLocal(ln.fd, ln.v6)
	preparePackets(ln.fd, ln.v6, listenerBuffer)
	return ln
}

// Start has the taker decide about what arrives.
func (ln *PacketListener) Start(taker PacketTaker) {
	ln.taker = taker
	ln.loop.Post(func() { ln.expire(ln.loop) })
}

// FD is the socket, until Close.
func (ln *PacketListener) FD() int { return int(ln.fd) }

// Close ends receiving and closes the socket. It must not be called in a loop, because it waits for one.
func (ln *PacketListener) Close() {
	ln.once.Do(func() {
		done := make(chan struct{})
		ln.loop.Post(func() {
			ln.loop.timers.clear(&ln.timer)
			ln.open, ln.ended = false, true
			ln.close(ln.loop)
			close(done)
		})
		<-done
	})
}

// expire begins to receive, again or for the first time.
func (ln *PacketListener) expire(l *Loop) {
	if ln.open || ln.ended {
		return
	}
	ln.open = true
	// Level-triggered: a datagram that comes while others are being taken does not cost another look when it was taken, too.
	if l.Add(ln.fd, unix.EPOLLIN, ln) != nil {
		ln.open = false
		l.timers.set(&ln.timer, ln, l.now+int64(time.Second))
	}
}

// Ready takes in what has arrived.
func (ln *PacketListener) Ready(l *Loop, fd int32, _ uint32) {
	if _, errno := l.gear().receiveAll(l, fd, ln.taker.Received); errno != 0 {
		ln.failed(l, errno)
	}
}

// receiveAll takes in what has arrived at fd, batch by batch. more: others are to have their turn first.
func (g *packetGear) receiveAll(l *Loop, fd int32, received func(*Loop, []Packet)) (more bool, _ syscall.Errno) {
	for range packetRounds {
		packets, more, errno := g.receive(fd)
		if errno == unix.EAGAIN {
			return false, 0
		}
		if errno != 0 {
			return false, errno
		}
		if received(l, packets); !more {
			return false, 0
		}
	}
	return true, 0
}

func (ln *PacketListener) failed(l *Loop, errno syscall.Errno) {
	wait := ln.taker.ReceiveFailed(errno)
	l.Remove(ln.fd)
	ln.open = false
	if ln.ended = wait < 0; !ln.ended {
		l.timers.set(&ln.timer, ln, l.now+int64(max(wait, time.Millisecond)))
	}
}

// Write sends a packet to a client, from any goroutine. As with Send, what cannot be sent is lost, and no error.
func (ln *PacketListener) Write(p *Packet, w *Way) error { return writeNow(ln, &ln.packetSocket, p, w) }

// Write sends a packet to the peer, from any goroutine.
func (c *PacketConn) Write(p *Packet, w *Way) error { return writeNow(nil, &c.packetSocket, p, w) }

func writeNow(ln *PacketListener, s *packetSocket, p *Packet, w *Way) error {
	o := outboxes.Get().(*outbox)
	defer outboxes.Put(o)
	o.add(ln, s, w, p)
	if _, errno := o.flush(); errno != 0 {
		return errno
	}
	return nil
}

// A PacketOwner is whom a PacketConn reports to, in its loop.
type PacketOwner interface {
	// Received is given datagrams from the peer, which are good until it returns, and longer for Reply alone.
	Received(l *Loop, packets []Packet)
	// ReceiveFailed is told of an error, such as ECONNREFUSED for an ICMP port unreachable (RFC 1122, section 4.1.3.3).
	ReceiveFailed(err syscall.Errno)
	// Closed says that the descriptor is closed and nothing more will happen.
	Closed()
}

// A PacketConn is a connected UDP socket.
type PacketConn struct {
	packetSocket
	loop  *Loop
	owner PacketOwner
}

// Init makes a connection of zero value out of a connected UDP socket, which does not block and becomes the connection's. It
// can send from now on, receives after Start, and has to be closed by Close. Its answers go to clients of ln.
func (c *PacketConn) Init(e *Engine, fd int, ln *PacketListener, owner PacketOwner) {
	c.loop, c.owner = ln.loop, owner
	if len(e.loops) > fewLoops {
		c.loop = e.Loop()
	}
	c.fd = int32(fd)
	c.v6peer = domain(c.fd) == unix.AF_INET6 && RemoteAddr(fd).Addr().Is6()
	preparePackets(c.fd, c.v6peer, connBuffer)
}

// Start begins to receive. It may be called from anywhere; l is the loop that it is called in, nil for none.
func (c *PacketConn) Start(l *Loop) {
	begin := func() {
		if c.fd >= 0 && c.loop.Add(c.fd, unix.EPOLLIN|unix.EPOLLET&0xffffffff, c) != nil {
			c.owner.ReceiveFailed(unix.ENOMEM)
		}
	}
	if l == c.loop {
		begin()
		return
	}
	c.loop.Post(begin)
}

// Close closes the socket soon. It may be called from anywhere, and more than once.
func (c *PacketConn) Close() {
	c.loop.Post(func() {
		if c.fd >= 0 {
			c.close(c.loop)
			c.owner.Closed()
		}
	})
}

// Ready takes in what has arrived.
func (c *PacketConn) Ready(l *Loop, fd int32, _ uint32) {
	more, errno := l.gear().receiveAll(l, fd, c.received)
	if errno != 0 {
		c.owner.ReceiveFailed(errno)
	}
	if more {
		l.rearm(fd)
	}
}

// received keeps the datagrams as long as a Reply may need them.
func (c *PacketConn) received(l *Loop, packets []Packet) {
	c.owner.Received(l, packets)
	l.gear().keep(len(packets))
}

// Send sends packets to the peer now and returns how many system calls' worth of messages went out before an error. The only
// errors are ECONNREFUSED, for an earlier datagram, and EBADF for a socket that is closed: a datagram that cannot be sent is
// lost. It may be called in any loop, which is l.
func (c *PacketConn) Send(l *Loop, packets []*Packet, w *Way) (int, syscall.Errno) {
	o := &l.gear().up
	sent := 0
	for _, p := range packets {
		for !o.add(nil, &c.packetSocket, w, p) {
			n, errno := o.flush()
			sent += n
			if errno != 0 {
				return sent, errno
			}
		}
	}
	n, errno := o.flush()
	return sent + n, errno
}

// Reply sends packets that a PacketConn has just received to a client of ln. They go out at the end of the loop's turn,
// together with those of others.
func (l *Loop) Reply(ln *PacketListener, packets []Packet, w *Way) {
	g := l.gear()
	for i := range packets {
		for !g.down.add(ln, &ln.packetSocket, w, &packets[i]) {
			g.down.flush()
		}
	}
}

// flushPackets sends what has been collected in this turn.
func (l *Loop) flushPackets() {
	if l.packets != nil {
		l.packets.flush()
	}
}

// rearm has an edge-triggered descriptor that may still be readable reported again.
func (l *Loop) rearm(fd int32) {
	ev := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLET&0xffffffff, Fd: fd, Pad: int32(l.slots[fd].generation)}
	_ = unix.EpollCtl(int(l.epoll), unix.EPOLL_CTL_MOD, int(fd), &ev)
}

// gear is what the loop sends and receives datagrams with, made for the first.
func (l *Loop) gear() *packetGear {
	if l.packets == nil {
		l.packets = newPacketGear()
	}
	return l.packets
}
