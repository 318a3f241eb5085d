package engine

import (
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	// maxSegments and maxSegmented bound a message that the kernel cuts into datagrams (udp(7), UDP_SEGMENT): their number, and
	// their bytes together, which have to fit an IPv4 packet.
	maxSegments  = 64
	maxSegmented = 65507

	outMessages = 2 * batch
	outIovecs   = 3 * outMessages
)

// A Way is how the datagrams of one flow in one direction are sent. Who sends keeps it as long as they may be in an outbox.
type Way struct {
	To     *Address       // nil: where the socket is connected to
	Local  netip.Addr     // this host's address that they leave from; not valid: the socket's, or what routing picks
	Prefix []byte         // that stands in front of each datagram, and is not counted
	Sent   *atomic.Uint64 // bytes that were sent
	Whole  *atomic.Uint32 // learnt: datagrams of so many bytes or more have to be sent one by one; 0: not known of any
}

// An outbox collects datagrams for one socket. Those of a flow that follow each other and are of one size become one message,
// which passes the kernel's network stack once.
type outbox struct {
	socket *packetSocket
	v6     bool // the socket's addresses are IPv6 ones
	local  bool // and it has several
	n      int  // messages
	iovs   int

	messages [outMessages]mmsghdr
	notes    [outMessages]note
	controls [outMessages]control
	iovecs   [outIovecs]unix.Iovec
}

// A note is what has to be known of a message besides.
type note struct {
	way     *Way
	ecn     uint8
	short   bool // the last datagram is a shorter one: no other can follow
	segment int  // bytes of each datagram but the last
	count   int  // datagrams
	size    int  // bytes
	payload int  // bytes without prefixes
	iov     int  // where its iovecs begin
	iovs    int
}

// outboxes are for those who send outside of a loop.
var outboxes = sync.Pool{New: func() any { return new(outbox) }}

// add takes in a packet for a socket; ln is the listener that it belongs to, nil for a connected one. False means that the
// outbox has to be flushed first.
func (o *outbox) add(ln *PacketListener, s *packetSocket, w *Way, p *Packet) bool {
	n := 1
	if p.Segment > 0 {
		n = (len(p.Data) + p.Segment - 1) / p.Segment
	}
	if o.n > 0 && (o.socket != s || o.n+n > outMessages || o.iovs+2*n > outIovecs) {
		return false
	}
	o.socket = s
	o.v6, o.local = ln != nil && ln.v6, ln != nil && ln.told
	p.Each(func(data []byte) {
		if o.n == outMessages || o.iovs+2 > outIovecs {
			return // no kernel puts so many together
		}
		if !o.join(w, p.ECN, data) {
			o.begin(w, p.ECN, data)
		}
	})
	return true
}

// join makes a datagram part of the last message, if it can be.
func (o *outbox) join(w *Way, ecn uint8, data []byte) bool {
	if o.n == 0 || !canSegment() {
		return false
	}
	m := &o.notes[o.n-1]
	size := len(w.Prefix) + len(data)
	if m.way != w || m.ecn != ecn || m.short || size > m.segment || size == 0 ||
		m.count == maxSegments || m.size+size > maxSegmented {
		return false
	}
	if whole := int(w.Whole.Load()); whole > 0 && m.segment >= whole {
		return false
	}
	m.short = size < m.segment
	o.put(m, w, data)
	return true
}

// begin makes a datagram a message of its own.
func (o *outbox) begin(w *Way, ecn uint8, data []byte) {
	m := &o.notes[o.n]
	*m = note{way: w, ecn: ecn, segment: len(w.Prefix) + len(data), iov: o.iovs}
	o.n++
	o.put(m, w, data)
}

func (o *outbox) put(m *note, w *Way, data []byte) {
	o.putBytes(m, w.Prefix)
	o.putBytes(m, data)
	m.count++
	m.size += len(w.Prefix) + len(data)
	m.payload += len(data)
}

// putBytes appends to a message's iovecs, or to the last of them where the bytes lie right behind it.
func (o *outbox) putBytes(m *note, b []byte) {
	if len(b) == 0 {
		return
	}
	base := unsafe.SliceData(b)
	if m.iovs > 0 {
		last := &o.iovecs[o.iovs-1]
		if uintptr(unsafe.Pointer(last.Base))+uintptr(last.Len) == uintptr(unsafe.Pointer(base)) {
			last.SetLen(int(last.Len) + len(b))
			return
		}
	}
	iov := &o.iovecs[o.iovs]
	iov.Base = base
	iov.SetLen(len(b))
	o.iovs++
	m.iovs++
}

// flush sends everything. A message that cannot be sent is lost, and the rest goes on, but for the errors that Send returns:
// then the rest is lost. sent counts the messages before.
func (o *outbox) flush() (sent int, errno syscall.Errno) {
	if o.n == 0 {
		return 0, 0
	}
	for i := range o.n {
		o.finish(i)
	}
	o.socket.mu.RLock()
	sent, errno = o.send(o.socket.fd)
	o.socket.mu.RUnlock()
	o.n, o.iovs = 0, 0
	return sent, errno
}

// finish writes the header of a message.
func (o *outbox) finish(i int) {
	m := &o.notes[i]
	h := &o.messages[i].header
	*h = unix.Msghdr{}
	if m.iovs > 0 {
		h.Iov = &o.iovecs[m.iov]
		h.SetIovlen(m.iovs)
	}
	if m.way.To != nil {
		h.Name = &m.way.To.raw[0]
		h.Namelen = uint32(m.way.To.size)
	}
	o.finishControl(i, o.local && m.way.Local.IsValid(), m.count > 1)
}

// finishControl writes the control messages of a message, and reports by the header when there are none.
func (o *outbox) finishControl(i int, local, segmented bool) {
	m := &o.notes[i]
	c := &o.controls[i]
	used := 0
	if local {
		used = c.addLocal(used, m.way.Local, o.v6)
	}
	if m.ecn != 0 {
		used = c.addECN(used, m.ecn, m.way.by6(o.socket))
	}
	if segmented {
		used = c.addSegment(used, m.segment)
	}
	h := &o.messages[i].header
	h.Control = nil
	h.SetControllen(used)
	if used > 0 {
		h.Control = c.first()
	}
}

// by6 reports whether datagrams go this way by IPv6.
func (w *Way) by6(s *packetSocket) bool {
	if w.To == nil {
		return s.v6peer
	}
	return w.To.is6()
}

func (o *outbox) send(fd int32) (sent int, errno syscall.Errno) {
	for i := 0; i < o.n; {
		n, errno := o.sendSome(fd, i)
		if errno == 0 {
			for ; n > 0; n-- {
				m := &o.notes[i]
				m.way.Sent.Add(uint64(m.payload))
				i++
				sent++
			}
			continue
		}
		m := &o.notes[i]
		switch {
		case errno == unix.EBADF, errno == unix.ECONNREFUSED && m.way.To == nil:
			return sent, errno
		case m.count > 1 && refusesSegments(errno):
			m.learn(errno)
			o.sendEach(fd, i)
		case errno == unix.EINVAL && o.local && m.way.Local.IsValid():
			o.sendEach(fd, i)
		}
		i++
	}
	return sent, 0
}

// sendSome sends messages from number i on, and returns how many. One that is nothing but bytes takes a simpler call.
func (o *outbox) sendSome(fd int32, i int) (int, syscall.Errno) {
	h := &o.messages[i].header
	if i+1 < o.n || h.Name != nil || h.Control != nil || o.notes[i].iovs != 1 {
		return sendmmsg(fd, o.messages[i:o.n])
	}
	_, errno := write(fd, unsafe.Slice(h.Iov.Base, o.notes[i].size))
	return 1, errno
}

// refusesSegments reports whether an error may mean that a message cannot be cut into datagrams: they would be larger than
// the path takes without fragments, or the interface computes no checksums.
func refusesSegments(errno syscall.Errno) bool {
	return errno == unix.EINVAL || errno == unix.EMSGSIZE || errno == unix.EIO || errno == unix.EOPNOTSUPP
}

// learn spares the next messages the attempt.
func (m *note) learn(errno syscall.Errno) {
	whole := uint32(m.segment)
	if errno == unix.EIO || errno == unix.EOPNOTSUPP {
		whole = 1
	}
	if old := m.way.Whole.Load(); old == 0 || whole < old {
		m.way.Whole.Store(whole)
	}
}

// sendEach sends the datagrams of a message one by one. What may not leave from the address that it should (a broadcast, or
// one that has gone) leaves from another: better than not at all.
func (o *outbox) sendEach(fd int32, i int) {
	m := &o.notes[i]
	h := &o.messages[i].header
	o.finishControl(i, o.local && m.way.Local.IsValid(), false)
	left := o.iovecs[m.iov:][:m.iovs]
	for range m.count {
		var pieces [2]unix.Iovec // a prefix and a datagram
		var k, size int
		k, size, left = cut(&pieces, left, m.segment)
		h.Iov = &pieces[0]
		h.SetIovlen(k)
		_, errno := sendmmsg(fd, o.messages[i:i+1])
		if errno == unix.EINVAL && o.local && m.way.Local.IsValid() {
			o.finishControl(i, false, false)
			_, errno = sendmmsg(fd, o.messages[i:i+1])
		}
		if errno == 0 {
			m.way.Sent.Add(uint64(size - len(m.way.Prefix)))
		}
	}
	h.Iov = nil
}

// cut takes one datagram's bytes off the front of a list.
func cut(pieces *[2]unix.Iovec, list []unix.Iovec, want int) (k, size int, rest []unix.Iovec) {
	for want > 0 && len(list) > 0 && k < len(pieces) {
		first := &list[0]
		n := min(want, int(first.Len))
		pieces[k].Base = first.Base
		pieces[k].SetLen(n)
		k, size, want = k+1, size+n, want-n
		if n == int(first.Len) {
			list = list[1:]
			continue
		}
		first.Base = (*byte)(unsafe.Add(unsafe.Pointer(first.Base), n))
		first.SetLen(int(first.Len) - n)
	}
	return k, size, list
}
