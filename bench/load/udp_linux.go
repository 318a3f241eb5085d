package load

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// lossTime is how long the answer to a datagram may take before it counts as lost and another goes in its place.
const lossTime = 100 * time.Millisecond

// A flow is a socket that keeps InFlight datagrams on their way. The first byte of each says which of them it is, so that a
// lost one is noticed while the others still come and go.
type flow struct {
	fd   int
	sent []time.Time // by first byte
}

// datagrams works on all of the client's flows at once.
func (c *client) datagrams() error {
	p, err := newPoller()
	if err != nil {
		return err
	}
	var (
		b     = newBatch(c.spec.InFlight, c.spec.Size, false)
		fresh = make([]byte, c.spec.Size)
		flows = make([]flow, len(c.to))
		next  time.Time // to look for lost ones
	)
	for i, to := range c.to {
		fd, errno := socket(unix.SOCK_DGRAM | unix.SOCK_NONBLOCK)
		if errno == 0 {
			errno = connect(fd, to)
		}
		if errno == 0 {
			errno = p.add(fd, i, unix.EPOLLIN)
		}
		if errno != 0 {
			return check("udp socket", errno)
		}
		defer reset(fd)
		flows[i] = flow{fd, make([]time.Time, c.spec.InFlight)}
	}
	for {
		now := time.Now()
		if now.After(c.by) {
			return nil
		}
		if now.After(next) {
			for i := range flows {
				c.renew(&flows[i], fresh, now)
			}
			next = now.Add(lossTime / 4)
		}
		for _, ev := range p.wait(10) {
			c.bounce(&flows[ev.Fd], b)
		}
	}
}

// bounce takes what has come back and sends it again.
func (c *client) bounce(f *flow, b *batch) {
	n, errno := b.receive(f.fd, unix.MSG_DONTWAIT)
	if errno != 0 {
		return // a port unreachable: renew counts what is missing
	}
	now := time.Now()
	for i := range n {
		if slot := int(b.bufs[i][0]); slot < len(f.sent) {
			f.sent[slot] = now
		}
	}
	c.finished(now, time.Time{}, n)
	_ = b.send(f.fd, n) // what does not go is renewed
}

// renew sends the datagrams that were never sent, and again those that are overdue, which it counts.
func (c *client) renew(f *flow, fresh []byte, now time.Time) {
	for slot, at := range f.sent {
		if now.Sub(at) < lossTime {
			continue
		}
		if !at.IsZero() {
			c.failed(fmt.Errorf("udp: no answer in %v", lossTime))
		}
		fresh[0] = byte(slot)
		f.sent[slot] = now
		_, _ = write(f.fd, fresh)
	}
}
