package relay

import (
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/fairlead-net/fairlead/forward"
	"github.com/fairlead-net/fairlead/node"
	"github.com/fairlead-net/fairlead/relay/engine"
	"github.com/fairlead-net/fairlead/relay/head"
)

// mostAsked is how many bytes a client says at most before a goroutine has to see to it.
const mostAsked = 600

// An asked is a led whose client says where it goes, to a head that waits for nothing else. Whatever is not that simple is left to
// a goroutine, to which the talk so far is told again.
type asked struct {
	led
	errand *errand
	talk
	last    *rehearsal // the one that found out where it goes
	reached bool
}

// ask is lead for a dynamic forward.
func (g *gate) ask(fd int, client netip.AddrPort, local netip.Addr, t *task, f *forward.Forward, leader node.Leader) error {
	a := &asked{led: led{session: g.newSession(client, local), relay: g.relay, gate: g, fd: fd}}
	a.errand = newErrand(g.relay, nil, f, client)
	if a.errand.NeedsLogin() {
		return errNotLed
	}
	switch err := g.enter(fd, t, a, f); err {
	case nil:
	case errFull:
		return nil
	default:
		return err
	}
	_, prompt := a.head.(head.Prompt)
	if prompt {
		borne, ok := leader.Lead(fd, client, "", "", node.LeadOptions{
			BearOptions: node.BearOptions{Idle: f.IdleTimeout, From: limitOf(&a.upload), To: limitOf(&a.download), Ended: a.ended},
			Timeout:     dialTime(f, true), Connected: a.connected, Failed: a.failed,
			First: &node.First{Ask: a.ask, Left: a.left, Patience: headTime},
		})
		if ok {
			a.is(borne)
			return nil
		}
	}
	a.letGo(a)
	return errNotLed
}

// ask reads what the client says, and has the head answer.
func (a *asked) ask() (addr string, next node.Next) {
	var buf [mostAsked]byte
	n, err := unix.Read(a.fd, buf[:])
	switch {
	case err == unix.EAGAIN || err == unix.EINTR:
		return "", node.AskAgain
	case err != nil || n == 0:
		return "", node.Leave
	}
	if a.said = append(a.said, buf[:n]...); len(a.said) >= mostAsked {
		return "", node.Leave
	}
	r, cue := a.rehearse(nil)
	switch {
	case cue == cueMore && a.answer(r.answers):
		return "", node.AskAgain
	case cue == cueDial && a.answer(r.answers[:r.granted]):
		a.last = r
		a.task.mu.Lock()
		a.at = r.target
		a.task.mu.Unlock()
		return r.target, node.Asked
	}
	return "", node.Leave
}

// answer tells the client what it was not told yet.
func (a *asked) answer(all []byte) bool {
	if len(all) <= a.answered {
		return true
	}
	n, err := unix.Write(a.fd, all[a.answered:])
	a.answered += max(n, 0)
	return err == nil && a.answered == len(all)
}

// rehearse has the head serve the client from the beginning.
func (a *asked) rehearse(refusal error) (*rehearsal, cue) {
	return a.errand.rehearse(a.gate.ctx, a.head, a.client, a.said, refusal)
}

// connected tells the client that it is where it wanted to go.
func (a *asked) connected() {
	a.reached = true
	a.led.connected()
	if !a.answer(a.last.answers) {
		a.kill()
	}
	a.last = nil
}

// failed tells the client that it is not. A goroutine waits until it has heard that.
func (a *asked) failed(err error) {
	a.relay.log.Debug("client of a proxy not served", keyForward, a.task.name, keyClient, a.clientText(), keyTarget, a.at, keyError, err)
	r, _ := a.rehearse(err)
	conn, err := netConn(a.fd)
	if err != nil {
		return // it is closed
	}
	a.relay.wg.Go(func() {
		_, _ = conn.Write(r.answers[min(a.answered, len(r.answers)):])
		partWith(conn)
	})
}

// left has a goroutine see to the client, from the beginning.
func (a *asked) left() {
	a.relay.wg.Add(1)
	defer a.relay.wg.Done()
	a.letGo(a)
	if a.wasKilled() {
		engine.Reset(a.fd)
		return
	}
	a.gate.slow(a.fd, &a.talk)
}

func (a *asked) ended(moved node.Borne) {
	a.is(moved)
	if !a.reached && !a.wasKilled() {
		a.task.refuse()
	}
	a.letGo(a)
}
