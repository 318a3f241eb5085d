package link

import (
	"errors"

	"github.com/quic-go/quic-go"

	"github.com/fairlead-net/fairlead/tunnel"
)

// quicOut is how many datagrams wait to be sent. quic-go holds 32 more, and has callers wait after that.
const quicOut = 256

// tooLarge is larger than any packet.
var tooLarge = make([]byte, 1<<16)

var datagramPool pool

// datagramSize is what buffers of datagrams have at the least: a packet of an ordinary path.
const datagramSize = 1500

// Datagram sends p. What there is no room for is lost.
func (l *quicLink) Datagram(p []byte) error {
	if err := l.Err(); err != nil {
		return err
	}
	if len(p) > 1100 { // less fits into every packet (RFC 9000, section 14)
		if most := l.fits(); len(p) > most {
			return &tunnel.TooLargeError{Max: most}
		}
	}
	l.mu.Lock()
	if l.out == nil {
		l.out = make(chan []byte, quicOut)
		go l.sendDatagrams(l.out)
	}
	out := l.out
	l.mu.Unlock()
	if l.admit != nil {
		l.admit()
	}
	buf := datagramPool.get(datagramSize)
	if cap(buf) < len(p) {
		buf = make([]byte, len(p))
	}
	buf = buf[:copy(buf[:len(p)], p)]
	select {
	case out <- buf:
	default:
		datagramPool.put(buf[:cap(buf)])
	}
	return nil
}

// fits is how long a datagram may be now. quic-go tells it to those who have one that is too long, before it looks at anything else.
func (l *quicLink) fits() int {
	var large *quic.DatagramTooLargeError
	if errors.As(l.conn.SendDatagram(tooLarge), &large) {
		return int(large.MaxDatagramPayloadSize)
	}
	return 0
}

// sendDatagrams waits for quic-go in the place of those who send. It ends with the connection.
func (l *quicLink) sendDatagrams(out <-chan []byte) {
	var bundle []byte
	for {
		select {
		case p := <-out:
			for p != nil {
				p = l.sendWith(p, out, &bundle)
			}
		case <-l.conn.Context().Done():
			return
		}
	}
}

// sendWith sends p, and what waits behind it as far as that fits into the same packet. It returns what did not.
func (l *quicLink) sendWith(p []byte, out <-chan []byte, bundle *[]byte) (next []byte) {
	b := (*bundle)[:0]
	for {
		select {
		case next = <-out:
		default:
			next = nil
		}
		if len(b) == 0 && (next == nil || len(p) == 0 || !bundled(1+bundleHead+len(p), next)) {
			_ = l.conn.SendDatagram(p) // it is lost if that fails: the path may have become narrower
			datagramPool.put(p[:cap(p)])
			return next
		}
		b = appendBundled(b, p)
		datagramPool.put(p[:cap(p)])
		if p = next; len(p) == 0 || !bundled(len(b), p) {
			_ = l.conn.SendDatagram(b)
			*bundle = b
			return p
		}
	}
}

// Datagrams calls got for each datagram that comes.
func (l *quicLink) Datagrams(got func(p []byte)) error {
	for {
		p, err := l.conn.ReceiveDatagram(l.conn.Context())
		if err != nil {
			if l.Err() != nil {
				err = l.Err()
			}
			return err
		}
		eachDatagram(p, got)
	}
}
