package relay

import (
	"context"
	"errors"
	"maps"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"
	"unique"

	"github.com/pires/go-proxyproto"

	"github.com/fairlead-net/fairlead/forward"
)

// A packetListener is the UDP side of a listener: one socket, and the flows of its clients. The engine reads the socket where
// it can, else one goroutine does.
type packetListener struct {
	relay *Relay
	conn  packetConn // until the engine takes it over
	door  packetDoor // the engine's

	mu    sync.Mutex
	flows map[flowKey]*flow
}

// A packetDoor is a listening socket that the engine reads.
type packetDoor interface {
	door
	answer(fl *flow, data []byte) error
}

func newPacketListener(c net.PacketConn, addr netip.Addr) *packetListener {
	return &packetListener{conn: newPacketConn(c, addr), flows: map[flowKey]*flow{}}
}

// socket is what other listeners on the port have to know of.
func (p *packetListener) socket() any {
	if p.door != nil {
		return p.door
	}
	return p.conn
}

// close ends the socket, and the flows that only it could answer.
func (p *packetListener) close() {
	if p.door != nil {
		_ = p.door.Close()
	} else {
		_ = p.conn.Close()
	}
	p.review(func(*flow) bool { return false })
}

// startPackets begins to take datagrams in.
func (r *Relay) startPackets(ctx context.Context, l *listener) {
	l.packets.relay = r
	if !r.takeOverPackets(ctx, l) {
		r.wg.Go(func() { r.readPackets(ctx, l) })
	}
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
			r.takePacket(ctx, l, peer, local, buf[:n])
		case ctx.Err() != nil:
			return
		case !r.retryAfter(ctx, l, err):
			return
		}
	}
}

func (r *Relay) takePacket(ctx context.Context, l *listener, peer netip.AddrPort, local netip.Addr, data []byte) {
	now := r.now()
	o := origin{key: flowKey{peer: unmap(peer), local: local}}
	fl, data := r.flowOf(l, &o, data)
	if fl != nil {
		if fl.send(data, now) {
			return
		}
		fl.kill()
		o.client, o.header = fl.client, fl.header
	}
	if data == nil {
		return
	}
	if fl = r.newFlow(l, o); fl == nil {
		return
	}
	fl.back = &wayBack{peer, l.packets.conn.answerFrom(local)}
	fl.send(data, now)
	r.goServeFlow(ctx, fl)
}

// An origin is where a flow comes from.
type origin struct {
	key    flowKey
	client netip.AddrPort // the peer, or whom it speaks for; zero: as the key says
	dest   netip.AddrPort // as a trusted peer has said; zero: where the datagram came to
	tlvs   []proxyproto.TLV
	header []byte // of a flow that this one takes the place of
}

// flowOf finds the flow that a datagram belongs to, nil when it is the first of one, and its payload: a trusted peer's
// header is cut off and entered into o. The payload is nil when the datagram is refused.
func (r *Relay) flowOf(l *listener, o *origin, data []byte) (*flow, []byte) {
	if data == nil {
		data = []byte{}
	}
	if fl := l.packets.find(o.key); fl != nil {
		return fl, data
	}
	t, f := r.match(l, o.key.peer.Addr(), o.key.local)
	if f == nil {
		t.refuse()
		return nil, nil
	}
	if len(f.AcceptProxy) == 0 || !trusts(f.AcceptProxy, o.key.peer.Addr()) {
		return nil, data
	}
	h, payload, err := cutDatagramHeader(data)
	if err != nil {
		t.refuse()
		r.log.Debug("datagram refused", keyForward, t.name, keyClient, o.key.peer.String(), keyError, err)
		return nil, nil
	}
	if o.key.named = unique.Make(o.key.peer); h.client.IsValid() {
		o.key.named, o.client, o.dest = unique.Make(h.client), h.client, h.dest
	}
	o.tlvs = h.tlvs
	if payload == nil {
		payload = []byte{}
	}
	return l.packets.find(o.key), payload
}

// newFlow enters a flow at the forward that takes its client, or counts the refusal and returns nil.
func (r *Relay) newFlow(l *listener, o origin) *flow {
	t, f := r.match(l, o.key.peer.Addr(), o.key.local)
	if f == nil {
		t.refuse()
		return nil
	}
	fl := &flow{key: o.key, socket: l.packets}
	fl.id, fl.place, fl.network, fl.since = r.nextID.Add(1), &l.place, forward.UDP, time.Now().UnixNano()
	fl.client, fl.peer, fl.local = o.key.peer, o.key.peer.Addr(), o.key.local
	if o.client.IsValid() {
		fl.client = o.client
	}
	fl.lastSeen.Store(r.now())
	for {
		err := t.enter(fl, f)
		if err == nil {
			break
		}
		if errors.Is(err, errChanged) {
			t, f = r.match(l, fl.peer, o.key.local)
		}
		if f == nil || errors.Is(err, errFull) {
			t.refuse()
			return nil
		}
	}
	fl.idleAfter.Store(int64(f.UDPIdle))
	if f.SendProxy != 0 {
		fl.introduce(o)
	}
	r.held.Add(1)
	r.wg.Add(1)
	l.packets.remember(fl)
	return fl
}

// introduce prepares the header that names the client to the target.
func (fl *flow) introduce(o origin) {
	if fl.header = o.header; fl.header != nil {
		return
	}
	dest := o.dest
	if !dest.IsValid() {
		dest = netip.AddrPortFrom(fl.local, fl.place.port)
	}
	header, err := headerForDatagrams(fl.client, dest, o.tlvs)
	if err != nil { // the TLVs are too long: better without them
		header, _ = headerForDatagrams(fl.client, dest, nil)
	}
	fl.header = header
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

// review ends the flows that keep says are no longer carried the right way. Datagrams go on meanwhile.
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

// expire ends the flows that have been quiet for too long.
func (p *packetListener) expire(now int64) {
	var over []*flow
	p.mu.Lock()
	for _, fl := range p.flows {
		if fl.idle(now) {
			over = append(over, fl)
		}
	}
	p.mu.Unlock()
	for _, fl := range over {
		fl.kill()
	}
}
