package tunnel

import "github.com/fairlead-net/fairlead/tunnel/wire"

// flowTurn is how many datagrams of a flow are read before others have their turn.
const flowTurn = 64

// pullPackets reads the socket of a flow, and sends what it says. The lock is given up meanwhile.
func (l *lane) pullPackets(st *Stream, b *batch) {
	so, s := st.borne, l.s
	if so == nil || so.reading || so.state != borneOpen || !so.readable || so.held[0] {
		return
	}
	buf := packetPool.Get().(*[wire.MaxDatagram + 8]byte)
	defer packetPool.Put(buf)
	so.reading, so.readable = true, false
	for turn := 0; ; turn++ {
		if turn == flowTurn || b.size > l.budget {
			so.readable = true
			break
		}
		s.mu.Unlock()
		n, again, err := sysRead(so.fd, buf[:])
		sent := !again && err == nil && l.link.sendPacket(st.id, buf[:n])
		s.mu.Lock()
		if again || so.state != borneOpen {
			break
		}
		if err != nil {
			continue // an ICMP message about an earlier one (RFC 1122, section 4.1.3.3): the next may get there
		}
		so.active = true
		so.from.Add(uint64(n))
		s.out += uint64(n)
		if !sent {
			before := len(b.buf)
			b.buf = wire.AppendDatagram(b.buf, st.id, buf[:n])
			b.size += len(b.buf) - before
		}
		if limited(so.o.From) > 0 { // since it was borne
			if so.pay(0, so.o.From, n); so.held[0] {
				so.readable = true
				break
			}
		}
	}
	so.reading = false
	if so.state == borneEnded {
		so.close()
	}
	st.enqueue()
}

// takePacket writes one datagram to the socket, which drops it when it is full. The lock is given up meanwhile.
func (b *borne) takePacket(p []byte) {
	if b.state != borneOpen || b.held[1] {
		return
	}
	if limited(b.o.To) > 0 { // since it was borne
		b.pay(1, b.o.To, len(p))
	}
	s := b.st.s
	b.active = true
	b.senders++ // a datagram can come by a lane while another does not
	s.mu.Unlock()
	_ = sysSend(b.fd, p)
	s.mu.Lock()
	b.senders--
	b.to.Add(uint64(len(p)))
	if b.state == borneEnded {
		b.close()
	}
}
