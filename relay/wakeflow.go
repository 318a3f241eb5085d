package relay

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fairlead-net/fairlead/forward"
)

const (
	// awakeFor is how long a target counts as awake since it was heard of: no host goes to sleep sooner.
	awakeFor = time.Minute
	// flowRetry is the least time between two tries to deliver what a flow holds.
	flowRetry = time.Second
	// flowSettle is how long the network is left alone after it has said that nobody answers ARP: what Linux is given for that neighbour
	// while it still says so about other packets, it throws away without a word.
	flowSettle = 100 * time.Millisecond
)

// A rousing wakes the target of one UDP flow. Nothing tells that a datagram arrived but an answer, so the target is woken
// whenever a flow begins and it was not heard of lately, until it answers. What the flow sends first is held until then, and
// sent again when the network says that it was not delivered (EHOSTUNREACH: nobody answers ARP; RFC 1122, section 2.3.2).
// What got lost without a word is the client's to send again. A nil rousing, of a forward without wake, does nothing.
type rousing struct {
	relay  *Relay
	task   *task
	f      *forward.Forward
	target forward.Target
	heard  *atomic.Int64 // when the target was heard of, on the relay's clock; 0: never
	until  int64         // on the relay's clock; wake.Within is over then

	answeredAny atomic.Bool

	mu    sync.Mutex
	w     *waker // nil: not being woken
	timer *time.Timer
	held  [][]byte
	tried int64
}

// rouse begins a flow to a target that may be asleep. end must follow.
func (r *Relay) rouse(ctx context.Context, s *session, target forward.Target) *rousing {
	if len(s.f.Wake.MACs) == 0 {
		return nil
	}
	now := r.now()
	x := &rousing{
		relay: r, task: s.task, f: s.f, target: target, heard: s.task.heardOf(target),
		until: now + int64(s.f.Wake.Within()), tried: now - int64(flowRetry),
	}
	if last := x.heard.Load(); last == 0 || now-last > int64(awakeFor) {
		x.mu.Lock()
		x.wakeLocked(ctx, now)
		x.mu.Unlock()
	}
	return x
}

// heardOf is when the target of a forward with wake was last heard of by UDP.
func (t *task) heardOf(target forward.Target) *atomic.Int64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	at := t.heard[target]
	if at == nil {
		at = &atomic.Int64{}
		if t.heard == nil {
			t.heard = map[forward.Target]*atomic.Int64{}
		}
		t.heard[target] = at
	}
	return at
}

// wakeLocked has magic packets sent, for as long as the target may take.
func (x *rousing) wakeLocked(ctx context.Context, now int64) {
	if x.w == nil && now < x.until {
		x.w = x.relay.joinWaker(ctx, x.task, x.f, x.target)
		x.timer = time.AfterFunc(time.Duration(x.until-now), x.end)
	}
}

// keep holds a copy of a datagram that is about to be sent, until the first answer.
func (x *rousing) keep(data []byte) {
	if x == nil || x.answeredAny.Load() {
		return
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if len(x.held) < pendingMax {
		x.held = append(x.held, append([]byte(nil), data...))
	}
}

// answered is called for each datagram of the target.
func (x *rousing) answered(now int64) {
	if x == nil {
		return
	}
	x.heard.Store(max(1, now))
	if x.answeredAny.Swap(true) {
		return
	}
	x.task.mu.Lock()
	x.task.awoken(x.target)
	x.task.mu.Unlock()
	x.end()
}

// lost decides about an error of the flow's socket. With ok the flow goes on, and sends the datagrams again after wait;
// otherwise it ends as it would without wake.
func (x *rousing) lost(ctx context.Context, err error, now int64) (again [][]byte, wait time.Duration, ok bool) {
	if x == nil || x.answeredAny.Load() || !isSilent(err) || now >= x.until {
		return nil, 0, false
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	x.wakeLocked(ctx, now)
	next := max(now+int64(flowSettle), x.tried+int64(flowRetry))
	x.tried = next
	return append([][]byte(nil), x.held...), time.Duration(next - now), true
}

// end lets go of the waker and of what is held. It may be called more than once.
func (x *rousing) end() {
	if x == nil {
		return
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	x.held = nil
	if x.w == nil {
		return
	}
	x.timer.Stop()
	x.task.leaveWaker(x.w)
	x.w, x.until = nil, 0
}
