package load

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// lossTime is how long the answer to a datagram may take before it counts as lost and another goes in its place.
const lossTime = 100 * time.Millisecond

// datagrams keeps InFlight datagrams on their way. The first byte of each says which of them it is, so that a lost one is
// noticed while the others still come and go.
func (c *client) datagrams() {
	fd, errno := socket(unix.SOCK_DGRAM)
	if errno == 0 {
		errno = connect(fd, c.to)
	}
	if errno != 0 {
		c.errors, c.err = 1, check("udp socket", errno)
		return
	}
	defer reset(fd)
	wait := unix.NsecToTimeval(int64(lossTime))
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &wait); err != nil {
		c.errors, c.err = 1, err
		return
	}
	var (
		b     = newBatch(c.spec.InFlight, c.spec.Size, false)
		fresh = make([]byte, c.spec.Size)
		sent  = make([]time.Time, c.spec.InFlight) // by first byte
		next  time.Time                            // to look for lost ones
	)
	for {
		now := time.Now()
		if now.After(c.by) {
			return
		}
		if now.After(next) {
			c.renew(fd, sent, fresh, now)
			next = now.Add(lossTime / 4)
		}
		n, errno := b.receive(fd, unix.MSG_WAITFORONE)
		if errno != 0 {
			continue // EAGAIN, or a port unreachable: renew counts what is missing
		}
		now = time.Now()
		for i := range n {
			if slot := int(b.bufs[i][0]); slot < len(sent) {
				sent[slot] = now
			}
		}
		if now.After(c.from) && now.Before(c.by) {
			c.count += uint64(n)
		}
		b.send(fd, n)
	}
}

// renew sends the datagrams that were never sent, and again those that are overdue, which it counts.
func (c *client) renew(fd int, sent []time.Time, fresh []byte, now time.Time) {
	for slot, at := range sent {
		if now.Sub(at) < lossTime {
			continue
		}
		if !at.IsZero() && now.After(c.from) {
			c.errors++
			c.err = fmt.Errorf("udp: no answer in %v", lossTime)
		}
		fresh[0] = byte(slot)
		sent[slot] = now
		write(fd, fresh)
	}
}
