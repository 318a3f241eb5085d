package relay

import "github.com/fairlead-net/fairlead/node"

// A met is a stream that the node carries where it arrives, to sockets of this machine.
type met struct {
	attempts
	burden
}

// meet has an arrival carried, where nothing takes waiting; false leaves it to Accept. It is called in a loop of the node's.
func (g *gate) meet(a node.Arrival) bool {
	r := g.relay
	if g.ctx.Err() != nil || g.Wait() > 0 {
		return false
	}
	client, local := addrPort(a.RemoteAddr()), addrPort(a.LocalAddr())
	for {
		t, f := r.match(g.listener, client.Addr(), local.Addr())
		if f == nil {
			t.refuse()
			a.Refuse()
			return true
		}
		dialer := r.quickDialer(f, client.Addr())
		if dialer == nil || f.SendProxy != 0 {
			return false
		}
		m := &met{attempts: attempts{relay: r, dialer: dialer, session: g.newSession(client, local.Addr())}}
		switch t.enter(m, f) {
		case nil:
			m.begin(a)
			return true
		case errFull:
			t.refuse()
			a.Refuse()
			return true
		}
	}
}

// begin starts the first attempt. Without any the client is turned away.
func (m *met) begin(a node.Arrival) {
	fd, timeout, err := m.start()
	if err != nil {
		m.fail(err)
		a.Refuse()
		m.end(m)
		return
	}
	m.is(a.Meet(fd, node.MeetOptions{
		BearOptions: node.BearOptions{Idle: m.f.IdleTimeout, From: limitOf(&m.download), To: limitOf(&m.upload), Ended: m.ended},
		Timeout:     timeout, Connected: m.connected, Failed: m.again,
	}))
}

func (m *met) ended(moved node.Borne) {
	m.is(moved) // it may end before Meet has returned
	m.end(m)
}

func (m *met) where() string { return m.far.String() }

func (m *met) bytes() (in, out uint64) {
	from, to := m.moved()
	return to, from
}
