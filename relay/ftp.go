package relay

import (
	"context"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/fairlead-net/fairlead/forward"
	"github.com/fairlead-net/fairlead/relay/head/ftp"
)

const (
	// dataWait is how long a data connection that was negotiated is waited for. Servers wait as long (vsftpd,
	// accept_timeout and connect_timeout).
	dataWait = time.Minute
	// metWait is how long the client is kept from reading that a transfer begins while the server has yet to connect. Some servers
	// say so first.
	metWait = 2 * time.Second
	// maxWaiting and maxData bound what one control connection can have: FTP needs one at a time.
	maxWaiting = 4
	maxData    = 8
)

// An ftpControl is a control connection of FTP (helper = "ftp"): the ftp.Env of one session. Its data connections are streams of
// their own, with their own bytes, which are shown and can be killed; as sessions they count as a part of this one. A
// control connection that is killed takes them along, and one that ends leaves them to finish.
//
//	reading (ftp.Serve) ──► ended
//	   └─ TLS ──► carrying, passive_ports open ──► ended
type ftpControl struct {
	relay  *Relay
	s      *stream
	f      *forward.Forward // as it was when the session began
	host   string           // of the server, as it was dialled
	server netip.Addr       // of the server, zero where only another node knows it
	inside netip.Addr       // this host's address that the server is called from, zero where it cannot call back

	mu      sync.Mutex
	waiting []*waiter
	met     chan struct{} // closed when the port that Active opened last leads to the client, or will not; nil: none was opened
	coming  int           // data connections whose other end is being dialled
	live    map[live]bool // data connections
	moved   uint64        // bytes of those that have ended
	over    bool          // nothing is opened any more
}

// serveFTP carries an FTP session whose server has been reached at an address. ctx is the session's.
func (r *Relay) serveFTP(ctx context.Context, s *stream, at dialled) {
	r.slow.Add(-1) // nobody waits for it to find its target
	defer r.slow.Add(1)
	c := &ftpControl{relay: r, s: s, f: s.f, live: map[live]bool{}}
	c.host, _, _ = net.SplitHostPort(at.where)
	if s.f.DialsFrom() == forward.Host {
		c.server = addrPort(s.far.RemoteAddr()).Addr()
		if !s.from(s.f).IsValid() { // an address of a client is none that this host can listen at
			c.inside = addrPort(s.far.LocalAddr()).Addr()
		}
	} else {
		c.server = at.target.Addr
	}
	s.mu.Lock()
	s.control = c
	s.mu.Unlock()
	defer c.end()
	defer s.watchIdle()()
	readUrgent(s.near)
	client := net.Conn(s.near)
	if s.upload.Slice() > 0 || s.download.Slice() > 0 {
		client = &shaped{Conn: s.near, ctx: ctx, upload: &s.upload, download: &s.download}
	}
	outcome, err := ftp.Serve(ctx, client, s.far, ftp.Ends{Client: s.client.Addr(), Server: c.server}, c)
	if err == nil && outcome.Opaque {
		err = c.carryOpaque(ctx, outcome)
		if err == nil {
			return
		}
	}
	drain(s.near)
	if err != nil {
		r.log.Debug("an FTP session broke off", keyForward, s.task.name, keyClient, s.clientText(), keyError, err)
		reset(s.near)
		reset(s.far)
		return
	}
	_ = s.near.Close()
	_ = s.far.Close()
}

// carryOpaque carries a control connection that cannot be read any more.
func (c *ftpControl) carryOpaque(ctx context.Context, o ftp.Outcome) error {
	c.waitForAll(ctx)
	s := c.s
	for _, one := range []struct {
		to    net.Conn
		bytes []byte
		out   bool
	}{{s.far, o.ToServer, false}, {s.near, o.ToClient, true}} {
		n, err := one.to.Write(one.bytes)
		if one.out {
			s.out.Add(uint64(n))
		} else {
			s.in.Add(uint64(n))
		}
		if err != nil {
			return err
		}
	}
	s.up.dst, s.up.src, s.up.count, s.up.limit = s.far, s.near, &s.in, &s.upload
	s.down.dst, s.down.src, s.down.count, s.down.limit = s.near, s.far, &s.out, &s.download
	carryStream(ctx, &s.up, &s.down, &c.relay.buffers) // and not the engine, which would not tell when it ends
	return nil
}

// Passive opens a port beside the address that the client called.
func (c *ftpControl) Passive(ctx context.Context, port uint16) (netip.AddrPort, error) {
	w := &waiter{from: bare(c.s.client.Addr()), once: true, known: !c.f.PassivePorts.IsZero()}
	w.take = func(_ uint16, near net.Conn) { c.begin(ctx, w, near, true, port) }
	return c.await(w, func() error { return c.listen(ctx, w, port) })
}

// Active opens a port beside the address that the server is called from.
func (c *ftpControl) Active(ctx context.Context, port uint16) (netip.AddrPort, error) {
	if !c.inside.IsValid() {
		return netip.AddrPort{}, ftp.ErrUnfit
	}
	n, err := c.relay.nodes(forward.Host)
	if err != nil {
		return netip.AddrPort{}, err
	}
	met := make(chan struct{})
	w := &waiter{from: bare(c.server), once: true, met: sync.OnceFunc(func() { close(met) })}
	w.take = func(_ uint16, far net.Conn) { c.begin(ctx, w, far, false, port) }
	c.mu.Lock()
	c.met = met
	c.mu.Unlock()
	return c.await(w, func() error {
		return c.relay.data.add(ctx, n, netip.AddrPortFrom(c.inside, 0), w)
	})
}

// Connected waits for the connection of the port that Active opened last.
func (c *ftpControl) Connected(ctx context.Context) {
	c.mu.Lock()
	met := c.met
	c.met = nil
	c.mu.Unlock()
	if met == nil {
		return
	}
	enough := time.NewTimer(metWait)
	defer enough.Stop()
	select {
	case <-met:
	case <-enough.C:
	case <-ctx.Done():
	}
}

// Count adds bytes of the control connection.
func (c *ftpControl) Count(in, out int) {
	c.s.in.Add(uint64(in))
	c.s.out.Add(uint64(out))
}

// listen has w wait at one of passive_ports, at the server's own number if that is free, or at any port.
func (c *ftpControl) listen(ctx context.Context, w *waiter, port uint16) error {
	n, err := c.relay.nodes(forward.Host)
	if err != nil {
		return err
	}
	offered := c.f.PassivePorts
	if offered.IsZero() {
		return c.relay.data.add(ctx, n, netip.AddrPortFrom(c.s.local, 0), w)
	}
	first := port
	if !offered.Contains(port) {
		first = offered.First + uint16(c.relay.now()%int64(offered.Count())) // others' ports are not guessed from ours
	}
	for i := range offered.Count() {
		at := offered.First + uint16((int(first-offered.First)+i)%offered.Count())
		if err = c.relay.data.add(ctx, n, netip.AddrPortFrom(c.s.local, at), w); err == nil || isScarce(err) {
			return err
		}
	}
	return err
}

// waitForAll has all of passive_ports lead to the same ports of the server: what is negotiated cannot be read.
func (c *ftpControl) waitForAll(ctx context.Context) {
	if c.f.PassivePorts.IsZero() {
		return
	}
	n, err := c.relay.nodes(forward.Host)
	missing := 0
	for port := range (forward.Ports{Ranges: []forward.Range{c.f.PassivePorts}}).Each {
		w := &waiter{from: bare(c.s.client.Addr()), room: c.hasRoom}
		w.take = func(port uint16, near net.Conn) { c.begin(ctx, w, near, true, port) }
		if err == nil {
			err = c.relay.data.add(ctx, n, netip.AddrPortFrom(c.s.local, port), w)
		}
		if err != nil {
			missing++
			if !isScarce(err) {
				err = nil
			}
			continue
		}
		c.mu.Lock()
		c.waiting = append(c.waiting, w)
		c.mu.Unlock()
	}
	if missing > 0 {
		c.relay.log.Warn("some of passive_ports are taken by others", keyForward, c.s.task.name, keyCount, missing)
	}
}

// await has w wait, for a while.
func (c *ftpControl) await(w *waiter, add func() error) (netip.AddrPort, error) {
	if err := add(); err != nil {
		return netip.AddrPort{}, err
	}
	c.relay.data.admit(c.s.task.name, w)
	c.mu.Lock()
	var oldest *waiter
	if len(c.waiting) >= maxWaiting {
		oldest = c.waiting[0]
	}
	c.waiting = append(c.waiting, w)
	w.giveUp = time.AfterFunc(dataWait, func() { c.forget(w) })
	c.mu.Unlock()
	if oldest != nil {
		c.forget(oldest)
	}
	return w.at, nil
}

// forget has w wait no longer.
func (c *ftpControl) forget(w *waiter) {
	c.mu.Lock()
	if w.giveUp != nil {
		w.giveUp.Stop()
	}
	for i, other := range c.waiting {
		if other == w {
			c.waiting = append(c.waiting[:i:i], c.waiting[i+1:]...)
			break
		}
	}
	c.mu.Unlock()
	c.relay.data.remove(w.at, w)
}

// end closes the ports of the session. Data connections finish.
func (c *ftpControl) end() {
	c.mu.Lock()
	c.over = true
	waiting := c.waiting
	c.mu.Unlock()
	for _, w := range waiting {
		c.forget(w)
	}
}

// bare is an address to compare with others.
func bare(a netip.Addr) netip.Addr { return a.Unmap().WithZone("") }
