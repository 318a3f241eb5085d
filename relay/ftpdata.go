package relay

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"net/netip"
	"strconv"
	"time"

	"github.com/fairlead-net/fairlead/forward"
	"github.com/fairlead-net/fairlead/node"
)

// begin carries a data connection that has come in for w: from the client to a port of the server (passive), or from the
// server to a port of the client. ctx is the control connection's.
func (c *ftpControl) begin(ctx context.Context, w *waiter, came net.Conn, passive bool, port uint16) {
	if w.once {
		c.forget(w)
	}
	c.mu.Lock()
	full := c.over || !c.hasRoomLocked()
	if !full {
		c.coming++
	}
	c.mu.Unlock()
	if full || c.relay.crowded() {
		if !full {
			c.arrived()
		}
		w.isMet()
		reset(came)
		return
	}
	c.relay.held.Add(2)
	c.relay.wg.Go(func() {
		defer w.isMet()
		if !c.serveData(ctx, w, came, passive, port) {
			c.relay.held.Add(-2)
		}
	})
}

// hasRoom reports whether the session may have another data connection.
func (c *ftpControl) hasRoom() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.hasRoomLocked()
}

func (c *ftpControl) hasRoomLocked() bool { return len(c.live)+c.coming < maxData }

func (c *ftpControl) arrived() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.coming--
}

// serveData carries one data connection to its end, or until the engine does.
func (c *ftpControl) serveData(ctx context.Context, w *waiter, came net.Conn, passive bool, port uint16) (handed bool) {
	d := &stream{near: came, far: came}
	var err error
	if passive {
		d.client = addrPort(came.RemoteAddr())
		d.far, err = c.dialServer(ctx, d.client, port)
	} else {
		d.client = netip.AddrPortFrom(c.s.client.Addr(), port)
		d.near, err = c.dialClient(ctx, port)
	}
	if err != nil {
		c.arrived()
		reset(came)
		c.relay.log.Debug("a data connection has no other end", keyForward, c.s.task.name, keyClient, c.s.clientText(), keyError, err)
		return false
	}
	w.isMet()
	own, cancel := context.WithCancel(context.WithoutCancel(ctx)) // it may outlive its control connection
	defer cancel()
	d.cancel = cancel
	d.id, d.place, d.network, d.since = c.relay.nextID.Add(1), c.s.place, forward.TCP, time.Now().UnixNano()
	d.peer, d.local, d.whole = c.s.peer, c.s.local, c
	d.reachedAt = reached(d.far, address{"tcp", net.JoinHostPort(c.host, strconv.Itoa(int(port)))})
	if !c.enter(d) {
		c.arrived()
		reset(d.near)
		reset(d.far)
		return false
	}
	defer func() {
		if !handed {
			c.s.task.leave(d)
		}
	}()
	handed = c.relay.carry(own, d)
	return handed
}

// enter takes a data connection in, as the forward is now.
func (c *ftpControl) enter(d *stream) bool {
	t := c.s.task
	for {
		f := t.wanted()
		if !d.covered(f) {
			return false
		}
		switch t.enter(d, f) {
		case nil:
		case errChanged:
			t.mu.Lock()
			gone := t.gone
			t.mu.Unlock()
			if !gone {
				continue
			}
			return false
		default:
			return false
		}
		t.mu.Lock()
		d.carried, d.target = true, c.s.target
		t.mu.Unlock()
		c.mu.Lock()
		c.coming--
		c.live[d] = true
		c.mu.Unlock()
		c.s.mu.Lock()
		killed := c.s.killed
		c.s.mu.Unlock()
		if killed {
			d.kill() // what is carried then ends at once
		}
		return true
	}
}

// left is called when a data connection has left.
func (c *ftpControl) left(d live) {
	in, out := d.bytes()
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.live, d)
	c.moved += in + out
}

// activity is how many bytes the data connections have moved.
func (c *ftpControl) activity() uint64 {
	c.mu.Lock()
	sum := c.moved
	list := make([]live, 0, len(c.live))
	for d := range c.live {
		list = append(list, d)
	}
	c.mu.Unlock()
	for _, d := range list {
		in, out := d.bytes()
		sum += in + out
	}
	return sum
}

// kill ends the data connections.
func (c *ftpControl) kill() {
	c.mu.Lock()
	c.over = true
	list := make([]live, 0, len(c.live))
	for d := range c.live {
		list = append(list, d)
	}
	c.mu.Unlock()
	for _, d := range list {
		d.kill()
	}
}

// dialServer calls a port of the server, as the control connection was dialled.
func (c *ftpControl) dialServer(ctx context.Context, client netip.AddrPort, port uint16) (net.Conn, error) {
	like := session{client: client, task: c.s.task, network: forward.TCP}
	dial, err := c.relay.dialer(&like, c.f)
	if err != nil {
		return nil, err
	}
	to := address{"tcp", net.JoinHostPort(c.host, strconv.Itoa(int(port)))}
	return dialOne(ctx, dial, to, dialTime(c.f, true))
}

// dialClient calls a port of the client from the address that the client knows: it, and what is between, expects no other.
func (c *ftpControl) dialClient(ctx context.Context, port uint16) (net.Conn, error) {
	n, err := c.relay.nodes(forward.Host)
	if err != nil {
		return nil, err
	}
	to := netip.AddrPortFrom(c.s.client.Addr(), port).String()
	dial := n.Dial
	if sources, ok := n.(node.SourceNode); ok && !leavesFrom(ctx, n, to, c.s.local) {
		dial = func(ctx context.Context, network, addr string) (net.Conn, error) {
			conn, err := sources.DialFrom(ctx, netip.AddrPortFrom(c.s.local, 0), network, addr)
			if errors.Is(err, fs.ErrPermission) { // most clients do not mind
				return n.Dial(ctx, network, addr)
			}
			return conn, err
		}
	}
	return dialOne(ctx, dial, address{"tcp", to}, dialTime(c.f, true))
}

// leavesFrom reports whether the system would call an address from local by itself. It takes more rights to make it.
func leavesFrom(ctx context.Context, n node.Node, to string, local netip.Addr) bool {
	packets, ok := n.(node.PacketNode)
	if !ok {
		return true
	}
	probe, err := packets.DialPacket(ctx, "udp", to) // which sends nothing
	if err != nil {
		return true
	}
	defer probe.Close()
	from, err := netip.ParseAddrPort(probe.LocalAddr().String())
	return err != nil || bare(from.Addr()) == bare(local)
}
