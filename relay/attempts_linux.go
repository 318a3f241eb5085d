package relay

import (
	"net/netip"
	"slices"
	"time"

	"github.com/fairlead-net/fairlead/forward"
	"github.com/fairlead-net/fairlead/node"
)

// attempts are a session whose target is reached with sockets that somebody else waits for: one address after the other.
type attempts struct {
	session
	relay  *Relay
	dialer node.SocketNode
	ahead  bool             // the client's first bytes are at hand by the time when they can be sent: they may go with SYN or ACK
	order  []forward.Target // in which they are tried
	next   attempt
	hasty  int            // how many of order are tried for a moment, before the others get the full time
	brief  bool           // the attempt under way is for a moment
	far    netip.AddrPort // the address that is tried, or was reached

	refused bool // counted as such
}

// An attempt counts the addresses to try: those of the first target, then those of the second, …
type attempt struct{ target, address int }

// start takes what is held for the session, until end, and starts the first attempt.
func (q *attempts) start() (fd int, timeout time.Duration, err error) {
	q.relay.held.Add(2)
	q.relay.wg.Add(1)
	q.order = q.task.order(q.f, q.client.Addr(), forward.TCP)
	q.hasty = len(q.order)
	return q.connect(errDraining)
}

// connect starts the next attempt that can be started. Without any the error is the last one's, or last.
func (q *attempts) connect(last error) (fd int, timeout time.Duration, err error) {
	for q.next.target < len(q.order) {
		target := &q.order[q.next.target]
		to := q.addresses(target)
		if q.next.address >= len(to) {
			q.next = attempt{target: q.next.target + 1}
			continue
		}
		q.far = to[q.next.address]
		q.next.address++
		fd, err := q.dialer.Connect(q.far, node.ConnectOptions{From: q.from(q.f), FastOpen: q.ahead && q.f.FastOpen, HoldACK: q.ahead})
		if err == nil {
			return fd, q.timeout(), nil
		}
		if last = (&DialError{Target: q.far.String(), Err: err}); isScarce(err) {
			return -1, 0, last // the next one needs a descriptor, too
		}
		q.failed(err)
	}
	return -1, 0, last
}

// timeout is how long an attempt may take. While there is another target, that is only its client's patience: a target that
// is dead without a word is to cost a moment.
func (q *attempts) timeout() time.Duration {
	last := q.next.target == len(q.order)-1
	full := dialTime(q.f, last)
	q.brief = false
	if last || q.next.target >= q.hasty {
		return full
	}
	patience := q.task.patience(&q.order[q.next.target])
	q.brief = patience < full
	return min(patience, full)
}

// failed notes what became of the attempt. A target that was only given a moment comes again after all the others, for the
// case that none of them answers either.
func (q *attempts) failed(err error) {
	to := &q.order[q.next.target]
	if q.brief && isTimeout(err) {
		q.order = append(slices.Clip(q.order), *to)
	}
	if q.next.address == len(q.addresses(to)) {
		q.task.failed(&q.session, to, err)
	}
}

// addresses are those of a target, in the order in which they are tried.
func (q *attempts) addresses(t *forward.Target) []netip.AddrPort {
	port := q.f.TargetPort(*t, q.place.port)
	if t.Addr.IsValid() {
		return []netip.AddrPort{netip.AddrPortFrom(t.Addr, port)}
	}
	v4, v6 := netip.AddrPortFrom(loopback4, port), netip.AddrPortFrom(netip.IPv6Loopback(), port)
	if q.client.Addr().Is6() {
		return []netip.AddrPort{v6, v4}
	}
	return []netip.AddrPort{v4, v6}
}

var loopback4 = netip.AddrFrom4([4]byte{127, 0, 0, 1})

// again goes on to the next address.
func (q *attempts) again(cause error) (fd int, timeout time.Duration) {
	q.failed(cause)
	fd, timeout, err := q.connect(&DialError{Target: q.far.String(), Err: cause})
	if err != nil {
		q.fail(err)
		return -1, 0
	}
	return fd, timeout
}

// connected notes that the target has answered.
func (q *attempts) connected() { q.task.reached(&q.session, &q.order[q.next.target]) }

// fail counts a client whose target cannot be reached.
func (q *attempts) fail(err error) {
	q.refused = true
	q.relay.noteDial(q.task, err)
}

// end lets go of what is held for the session. A client that did not wait for its target is counted as refused.
func (q *attempts) end(l live) {
	if !q.refused && q.target == nil {
		q.task.refuse()
	}
	q.task.leave(l)
	q.relay.held.Add(-2)
	q.relay.wg.Done()
}
