package relay

import (
	"sync/atomic"

	"github.com/fairlead-net/fairlead/node"
)

// A met is a stream that the node carries where it arrives, to sockets of this machine.
type met struct {
	attempts
	burden
	opening atomic.Bool // counted as one who waits for the target
	over    atomic.Bool // what is held for it was given back
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
	m.opening.Store(true)
	m.relay.slow.Add(1)
	fd, timeout, err := m.start()
	if err != nil {
		m.fail(err)
		a.Refuse()
		m.ended(nil)
		return
	}
	m.is(a.Meet(fd, node.MeetOptions{
		BearOptions: node.BearOptions{Idle: m.f.IdleTimeout, From: limitOf(&m.download), To: limitOf(&m.upload), Ended: m.ended},
		Timeout:     timeout, Connected: m.connected, Failed: m.again,
	}))
}

func (m *met) connected() {
	m.attempts.connected()
	m.settled()
}

// settled is that nobody waits for the target any more.
func (m *met) settled() {
	if m.opening.CompareAndSwap(true, false) {
		m.relay.slow.Add(-1)
	}
}

func (m *met) ended(moved node.Borne) {
	if moved != nil {
		m.is(moved) // it may end before Meet has returned
	}
	if m.relay.leaving.Load() {
		m.refused = true // it is not: it comes again
	}
	m.settled()
	if m.over.CompareAndSwap(false, true) {
		m.end(m)
	}
}

// freeze writes the session down for the next process. Its node has frozen it; one that is the node's alone ends.
func (m *met) freeze(h *Handover) {
	if m.target != nil && h.addBorne(&m.session, m.now(), &m.over, m.where(), true) {
		m.end(m)
	}
}

func (m *met) where() string { return m.far.String() }

func (m *met) bytes() (in, out uint64) {
	from, to := m.moved()
	return to, from
}
