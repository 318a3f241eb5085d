package engine

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	// batch is how many messages one system call receives or sends.
	batch = 64
	// slotSize is where the next message begins: room for the largest one, and an odd rest, so that the beginnings of all of
	// them do not compete for the same lines of the processor's cache.
	slotSize = 64<<10 + 1536
	// fewSlots is how many free slots are too few to begin a batch.
	fewSlots = batch / 4
)

// packetGear is what a loop receives and sends datagrams with: one arena for all sockets, of which only the pages that are
// used take memory.
type packetGear struct {
	arena    []byte
	in       [batch]mmsghdr
	iovecs   [batch]unix.Iovec
	from     [batch]Address
	controls [batch]control
	packets  [batch]Packet
	used     int // slots, from the first, that replies still lie in

	up, down outbox
}

// mmsghdr is struct mmsghdr of recvmmsg(2).
type mmsghdr struct {
	header unix.Msghdr
	size   uint32
}

func newPacketGear() *packetGear {
	g := &packetGear{}
	arena, err := unix.Mmap(-1, 0, batch*slotSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		arena = make([]byte, batch*slotSize)
	}
	_ = unix.Madvise(arena, unix.MADV_NOHUGEPAGE)
	g.arena = arena
	for i := range g.in {
		iov := &g.iovecs[i]
		iov.Base = &arena[i*slotSize]
		iov.SetLen(bufferSize)
		h := &g.in[i].header
		h.Iov = iov
		h.SetIovlen(1)
		h.Name = &g.from[i].raw[0]
		h.Control = g.controls[i].first()
		g.reset(i)
	}
	return g
}

func (g *packetGear) drop() { _ = unix.Munmap(g.arena) }

// reset makes a slot ready for the next message: the kernel has written over the sizes.
func (g *packetGear) reset(i int) {
	h := &g.in[i].header
	h.Namelen = unix.SizeofSockaddrInet6
	h.SetControllen(controlSize)
}

// keep holds on to the last n messages when there are replies that may lie in them.
func (g *packetGear) keep(n int) {
	if g.down.n > 0 {
		g.used = min(g.used+n, batch)
	} else {
		g.used = 0
	}
}

func (g *packetGear) flush() {
	g.down.flush()
	g.used = 0
}

// receive takes what waits at a socket, as much as there is room for; more says that there may be more.
func (g *packetGear) receive(fd int32) (packets []Packet, more bool, errno syscall.Errno) {
	if batch-g.used < fewSlots {
		g.flush()
	}
	first := g.used
	n, errno := recvmmsg(fd, g.in[first:])
	if errno != 0 {
		return nil, false, errno
	}
	for i := first; i < first+n; i++ {
		m := &g.in[i]
		p := &g.packets[i]
		*p = Packet{Data: g.arena[i*slotSize:][:m.size:m.size], From: &g.from[i]}
		g.from[i].size = uint8(m.header.Namelen)
		parseControl(g.controls[i].bytes()[:m.header.Controllen], p)
		if p.Segment >= len(p.Data) {
			p.Segment = 0
		}
		g.reset(i)
	}
	return g.packets[first : first+n], first+n == batch, 0
}

func recvmmsg(fd int32, m []mmsghdr) (int, syscall.Errno) {
	for {
		n, _, errno := syscall.RawSyscall6(unix.SYS_RECVMMSG, uintptr(fd), uintptr(unsafe.Pointer(&m[0])), uintptr(len(m)),
			unix.MSG_DONTWAIT, 0, 0)
		if errno != unix.EINTR {
			return int(n), errno
		}
	}
}

func sendmmsg(fd int32, m []mmsghdr) (int, syscall.Errno) {
	for {
		n, _, errno := syscall.RawSyscall6(unix.SYS_SENDMMSG, uintptr(fd), uintptr(unsafe.Pointer(&m[0])), uintptr(len(m)),
			unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, 0, 0)
		if errno != unix.EINTR {
			return int(n), errno
		}
	}
}
