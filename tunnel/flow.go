package tunnel

import (
	"errors"
	"fmt"
	"net"
	"sync"

	"github.com/fairlead-net/fairlead/tunnel/wire"
)

// What a flow keeps of datagrams that nobody has read yet.
const (
	flowMost  = 128
	flowBytes = 512 << 10
	flowsPart = 4 // of Options.Memory, which all flows of a session may keep together
)

var packetPool = sync.Pool{New: func() any { return new([wire.MaxDatagram + 8]byte) }}

// writeDatagram sends one datagram, or drops it when there is no link, or the lane is congested.
func (st *Stream) writeDatagram(p []byte) (int, error) {
	s := st.s
	if len(p) > wire.MaxDatagram {
		return 0, fmt.Errorf("a datagram of %d bytes; %d is the most", len(p), wire.MaxDatagram)
	}
	s.mu.Lock()
	switch {
	case st.closed:
		s.mu.Unlock()
		return 0, net.ErrClosed
	case st.err != nil:
		defer s.mu.Unlock()
		return 0, st.err
	}
	s.out += uint64(len(p))
	a := s.inUse()
	s.mu.Unlock()
	if a == nil || a.sendPacket(st.id, p) {
		return len(p), nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if l := a.first; l.grams+len(p) < gramsMost {
		n := len(l.ctl)
		l.ctl = wire.AppendDatagram(l.ctl, st.id, p)
		l.grams += len(l.ctl) - n
		l.kick()
	}
	return len(p), nil
}

// sendPacket reports whether the transport has taken the datagram.
func (a *attached) sendPacket(flow uint64, p []byte) bool {
	if a.noPackets.Load() {
		return false
	}
	buf := packetPool.Get().(*[wire.MaxDatagram + 8]byte)
	defer packetPool.Put(buf)
	err := a.conn.Datagram(wire.AppendPacket(buf[:0], flow, p))
	if errors.Is(err, errors.ErrUnsupported) {
		a.noPackets.Store(true)
	}
	return err == nil
}

// datagram takes one in. It is dropped when nobody reads fast enough.
func (s *Session) datagram(flow uint64, p []byte) {
	st := s.streams[flow]
	if st == nil || !st.flow || st.err != nil || st.deaf || !st.ours && !st.answered {
		return
	}
	s.in += uint64(len(p))
	if st.borne != nil {
		st.borne.takePacket(p)
		return
	}
	if st.grams >= flowMost || st.in.size+len(p) > flowBytes {
		return
	}
	c := newChunk(len(p))
	if s.kept+len(c.buf) > s.o.Memory/flowsPart {
		c.free()
		return
	}
	s.kept += len(c.buf)
	st.kept += len(c.buf)
	c.from = 0 // a datagram needs no head, and may be as large as the chunk
	c.to = copy(c.buf, p)
	st.grams++
	st.in.push(c)
	st.rd.signal()
}

// readDatagram takes the first one out.
func (st *Stream) readDatagram(p []byte) int {
	c := st.in.pop()
	st.grams--
	st.unkeep(len(c.buf))
	n := copy(p, c.data())
	c.free()
	return n
}

// unkeep is that so much of what a flow keeps is no longer there, or no longer the session's.
func (st *Stream) unkeep(n int) {
	n = min(n, st.kept)
	st.kept -= n
	st.s.kept -= n
}

// attend starts what serves the datagrams of a link.
func (s *Session) attend(a *attached) {
	s.wg.Go(func() {
		_ = a.conn.Datagrams(func(p []byte) {
			flow, payload, err := wire.Packet(p)
			if err != nil {
				return
			}
			a.hear()
			s.mu.Lock()
			defer s.unlock()
			s.datagram(flow, payload)
		})
	})
}
