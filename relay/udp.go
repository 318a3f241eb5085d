package relay

import (
	"context"
	"errors"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/fairlead-net/fairlead/forward"
)

// A packetListener is the UDP side of a listener: one socket, one goroutine that reads it, and the flows of its clients.
type packetListener struct {
	conn packetConn

	mu    sync.Mutex
	flows map[flowKey]*flow
}

// readPackets carries every datagram that arrives, until the socket is closed. On the way of a known flow nothing is
// allocated.
func (r *Relay) readPackets(ctx context.Context, l *listener) {
	p := l.packets
	buf := make([]byte, bufferSize)
	for {
		n, peer, local, err := p.conn.readFrom(buf)
		switch {
		case err == nil:
			r.takePacket(ctx, l, flowKey{unmap(peer), local}, peer, buf[:n])
		case ctx.Err() != nil:
			return
		case !r.retryAfter(ctx, l, err):
			return
		}
	}
}

func (r *Relay) takePacket(ctx context.Context, l *listener, key flowKey, peer netip.AddrPort, data []byte) {
	now := r.now()
	if fl := l.packets.find(key); fl != nil {
		if fl.send(data, now) {
			return
		}
		fl.kill()
	}
	fl, ctx := r.newFlow(ctx, l, key, peer)
	if fl == nil {
		return
	}
	fl.send(data, now)
	r.wg.Go(func() { r.serveFlow(ctx, fl) })
}

// newFlow enters a flow for key at the forward that takes its client, or counts the refusal and returns nil. The flow
// outlives the ctx of its listener, and ends with the one that is returned.
func (r *Relay) newFlow(ctx context.Context, l *listener, key flowKey, to netip.AddrPort) (*flow, context.Context) {
	t, f := r.match(l, key.client.Addr(), key.local)
	if f == nil {
		t.refuse()
		return nil, nil
	}
	fl := &flow{key: key, socket: l.packets, to: to, from: l.packets.conn.answerFrom(key.local)}
	fl.id, fl.place, fl.network, fl.since = r.nextID.Add(1), &l.place, forward.UDP, time.Now().UnixNano()
	fl.client, fl.peer, fl.local = key.client, key.client.Addr(), key.local
	fl.lastSeen.Store(r.now())
	flowCtx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	fl.cancel = cancel
	for {
		err := t.enter(fl, f)
		if err == nil {
			l.packets.remember(fl)
			return fl, flowCtx
		}
		if errors.Is(err, errChanged) {
			t, f = r.match(l, fl.peer, key.local)
		}
		if f == nil || errors.Is(err, errFull) {
			t.refuse()
			cancel()
			return nil, nil
		}
	}
}

func (p *packetListener) find(key flowKey) *flow {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.flows[key]
}

func (p *packetListener) remember(fl *flow) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.flows[fl.key] = fl
}

// forget takes fl out, unless another flow has already taken its place.
func (p *packetListener) forget(fl *flow) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.flows[fl.key] == fl {
		delete(p.flows, fl.key)
	}
}

// review ends the flows that keep says are no longer carried the right way.
func (p *packetListener) review(keep func(*flow) bool) {
	p.mu.Lock()
	all := slices.Collect(maps.Values(p.flows))
	p.mu.Unlock()
	for _, fl := range all {
		if !keep(fl) {
			fl.kill()
		}
	}
}
