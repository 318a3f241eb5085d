package link

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"time"

	"github.com/fairlead-net/fairlead/tunnel"
)

// measureALPN is the protocol of a connection by which an agent finds out how fast a transport is. The hub says on its lane what it hears.
const measureALPN = "fairlead-measure/1"

// measureSize is how much is sent there and back: enough to notice that somebody on the way lets a transport through by drops.
const measureSize = 256 << 10

// measureTLS is as agentTLS for such a connection.
func measureTLS(c *tls.Config) *tls.Config {
	m := c.Clone()
	m.NextProtos = []string{measureALPN}
	return m
}

// measure is how long it takes to send some data to the hub and back, by one transport. What is not back after the pace's limit has taken so long.
func (d *Dialer) measure(ctx context.Context, transport string) (time.Duration, error) {
	m := &Dialer{DialOptions: d.DialOptions, tls: measureTLS(d.tls), proxy: d.proxy, net: d.net, in: d.in, pace: d.pace}
	link, err := m.by(ctx, transport)
	if err != nil {
		return 0, err
	}
	defer link.Close()
	ctx, cancel := context.WithTimeout(ctx, 2*d.pace.limit)
	defer cancel()
	lane, err := link.Open(ctx)
	if err != nil {
		return 0, err
	}
	defer lane.Close()
	start := time.Now()
	deadline := start.Add(d.pace.limit)
	_ = lane.SetReadDeadline(deadline)
	_ = lane.SetWriteDeadline(deadline)
	defer context.AfterFunc(ctx, func() { link.Close() })()
	sent := make(chan error, 1)
	go func() {
		_, err := lane.Write(make([]byte, measureSize))
		if err == nil {
			err = lane.Flush()
		}
		sent <- err
	}()
	n, err := io.CopyN(io.Discard, lane, measureSize)
	if err != nil {
		lane.Close()
	}
	if failed := <-sent; err == nil {
		err = failed
	}
	took := time.Since(start)
	if err != nil && n > 0 && took >= d.pace.limit*9/10 { // it works, so to speak
		return took, nil
	}
	return took, err
}

// reflect is the hub's part: it says what it hears. Those for whom it does are counted all the while as those who have shown no key.
func (l *Listener) reflect(ctx context.Context, link tunnel.Link) {
	defer link.Close()
	defer context.AfterFunc(ctx, func() { link.Close() })()
	lane, err := link.Accept(ctx)
	if err != nil {
		return
	}
	defer lane.Close()
	until := time.Now().Add(dialTime)
	_ = lane.SetReadDeadline(until)
	_ = lane.SetWriteDeadline(until)
	buf := make([]byte, 16<<10)
	for left := measureSize; left > 0; {
		n, err := lane.Read(buf[:min(left, len(buf))])
		if n > 0 {
			left -= n
			if _, err := lane.Write(buf[:n]); err != nil {
				return
			}
			if err := lane.Flush(); err != nil {
				return
			}
		}
		if err != nil {
			if !errors.Is(err, io.EOF) {
				l.Log.Debug("a measurement was cut off", "error", err)
			}
			return
		}
	}
	_, _ = lane.Read(buf[:1]) // until the agent has what is on its way, and hangs up
}
