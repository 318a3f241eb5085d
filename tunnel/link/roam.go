package link

import (
	"context"
	"time"
)

// When an agent's QUIC link looks for another path to the hub.
const (
	roamTick   = 250 * time.Millisecond
	roamSilent = time.Second            // so long after something was sent, and nothing has come: the hub is asked
	roamAnswer = 400 * time.Millisecond // so long after that it is looked for from another socket
	roamProbe  = 700 * time.Millisecond // how long a probe is repeated before it is begun anew, since it is repeated less and less often
)

// roam keeps an agent's link alive while its address changes (RFC 9000, section 9). The socket has no address of its own, so the next packet
// takes whatever route there is, and the hub follows. But there may be no next packet for long, since QUIC repeats less and less often, and
// a NAT or a firewall on the way may drop what belongs to a flow that it knows otherwise. So the hub is asked at once when something
// has changed here, and if it does not answer, from a new socket. That it sends something is no answer, since one direction may be dropped alone; that there is
// another measurement of the round trip is. roam ends with the connection.
func (l *quicLink) roam(changed <-chan struct{}, in func(func() error) error) {
	ctx := l.conn.Context()
	defer l.watching.Wait()
	tick := time.NewTicker(roamTick)
	defer tick.Stop()
	stats := l.conn.ConnectionStats()
	answered, sent := stats.LatestRTT, stats.PacketsSent
	var since, asked time.Time // when the silence began; when the hub was asked
	for {
		now := time.Now()
		select {
		case <-ctx.Done():
			return
		case <-changed:
			if asked.IsZero() {
				l.nudge()
				asked = now
			}
			continue
		case <-tick.C:
		}
		stats = l.conn.ConnectionStats()
		now = time.Now()
		rtt := stats.SmoothedRTT
		switch {
		case stats.LatestRTT != answered:
			answered, sent = stats.LatestRTT, stats.PacketsSent
			since, asked = time.Time{}, time.Time{}
		case since.IsZero() && stats.PacketsSent != sent:
			since = now
		}
		switch {
		case asked.IsZero() && !since.IsZero() && now.Sub(since) > max(roamSilent, 4*rtt):
			l.nudge()
			asked = now
		case !asked.IsZero() && now.Sub(asked) > max(roamAnswer, 4*rtt):
			l.migrate(ctx, in, answered)
			stats = l.conn.ConnectionStats()
			answered, sent = stats.LatestRTT, stats.PacketsSent
			since, asked = time.Time{}, time.Time{}
		}
	}
}

// nudgeSize is how long the datagram of a nudge is. A hub that was killed and started again answers a packet that it cannot read by a stateless reset,
// but none that is so short that it might be one itself (RFC 9000, section 10.3): without any bytes it would be.
const nudgeSize = 40

// nudge has the hub acknowledge something. The datagram is a bundle of none, and has no meaning.
func (l *quicLink) nudge() {
	l.mu.Lock()
	out := l.out
	if out == nil {
		out = make(chan []byte, quicOut)
		l.out = out
		go l.sendDatagrams(out)
	}
	l.mu.Unlock()
	buf := datagramPool.get(datagramSize)[:nudgeSize]
	clear(buf)
	select {
	case out <- buf:
	default:
		datagramPool.put(buf[:cap(buf)])
	}
}

// maxSockets is how often a link may change its socket. quic-go ends a connection with any of the sockets that it was ever seen at, so none is
// closed before the link is.
const maxSockets = 16

// migrate probes a path from a new socket until it answers, or the old one does, whose last answer took so long.
func (l *quicLink) migrate(ctx context.Context, in func(func() error) error, answered time.Duration) {
	fresh, err := openSocket(l.Remote(), in)
	if err != nil {
		return
	}
	fresh.establish()
	l.mu.Lock()
	ended := l.sockets == nil
	full := len(l.sockets) >= maxSockets
	if !ended && !full {
		l.sockets = append(l.sockets, fresh)
	}
	l.mu.Unlock()
	if ended || full {
		fresh.close()
		return
	}
	path, err := l.conn.AddPath(fresh.transport)
	if err != nil {
		return
	}
	for ctx.Err() == nil {
		probe, cancel := context.WithTimeout(ctx, roamProbe)
		err = path.Probe(probe)
		cancel()
		if err == nil {
			err = path.Switch()
		}
		if err == nil {
			return
		}
		if l.conn.ConnectionStats().LatestRTT != answered {
			break
		}
	}
	path.Close()
}
