package relay

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/fairlead-net/fairlead/forward"
	"github.com/fairlead-net/fairlead/wake"
)

const (
	// wakeDialTime is how long a target that may be asleep may take to answer: one lost SYN. Who answers later has been sent
	// magic packets that it did not need.
	wakeDialTime = time.Second
	// wakeRetry is the least time from one try of a waiting client to the next.
	wakeRetry = time.Second
	// wakeEvery is the time from one round of magic packets to the next. Some cards miss the first, while the switch learns.
	wakeEvery = 2 * time.Second
	// wakeLookup is how long the name of a target may take to be found before the packets go out without its address.
	wakeLookup = time.Second
)

// isSilent reports whether err is what dialling a sleeping host leads to. A host that refuses is awake. A name that is not
// found may be one that its host itself makes known (mDNS, DHCP) while it is awake.
func isSilent(err error) bool {
	var dns *net.DNSError
	for _, errno := range []error{syscall.EHOSTUNREACH, syscall.ENETUNREACH, syscall.EHOSTDOWN} {
		if errors.Is(err, errno) {
			return true
		}
	}
	return isTimeout(err) || errors.As(err, &dns)
}

// A waker sends magic packets to one target, for all who wait for it.
//
//	first joins ──► packets every wakeEvery ──► over, when the last has left or someone reaches the target
type waker struct {
	target  forward.Target
	macs    []forward.MAC
	since   time.Time
	stop    context.CancelFunc
	trouble atomic.Pointer[string] // why the last round was not sent; nil: it was
	waiting int                    // guarded by task.mu
}

// wakers are those of a forward. Guarded by task.mu.
type wakers struct {
	of    map[forward.Target]*waker
	awake chan struct{} // closed when one of the targets is reached: who waits tries at once; nil: nobody waited yet
}

// joinWaker has a target woken until leaveWaker, or until somebody reaches it.
func (r *Relay) joinWaker(ctx context.Context, t *task, f *forward.Forward, target forward.Target) *waker {
	t.mu.Lock()
	defer t.mu.Unlock()
	w := t.wakers.of[target]
	if w == nil {
		one := *f
		one.To, one.Wake.MACs = []forward.Target{target}, f.WakeMACs(max(0, slices.Index(f.To, target)))
		ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
		w = &waker{target: target, macs: one.Wake.MACs, since: time.Now(), stop: cancel}
		if t.wakers.of == nil {
			t.wakers = wakers{of: map[forward.Target]*waker{}, awake: make(chan struct{})}
		}
		t.wakers.of[target] = w
		r.wg.Go(func() { w.run(ctx, r, &one) })
		r.log.Info("waking a target", keyForward, t.name, keyTarget, target.String())
	}
	w.waiting++
	return w
}

// leaveWaker ends what joinWaker began.
func (t *task) leaveWaker(w *waker) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if w.waiting--; w.waiting == 0 {
		t.endWaker(w)
	}
}

// endWaker ends the packets. The caller holds t.mu.
func (t *task) endWaker(w *waker) {
	w.stop()
	if t.wakers.of[w.target] == w {
		delete(t.wakers.of, w.target)
	}
}

// wakes reports whether a waker still sends packets.
func (t *task) wakes(w *waker) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.wakers.of[w.target] == w
}

// awoken tells those who wait for a target that it answers. The caller holds t.mu.
func (t *task) awoken(target forward.Target) {
	if w := t.wakers.of[target]; w != nil {
		t.endWaker(w)
		close(t.wakers.awake)
		t.wakers.awake = make(chan struct{})
	}
}

// A magicSender is wake.Send.
type magicSender func(ctx context.Context, t wake.Target) ([]wake.Copy, error)

// run sends magic packets until ctx is done.
func (w *waker) run(ctx context.Context, r *Relay, f *forward.Forward) {
	ticker := time.NewTicker(wakeEvery)
	defer ticker.Stop()
	for {
		w.send(ctx, r, f)
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
	}
}

// send is one round of packets, to each card.
func (w *waker) send(ctx context.Context, r *Relay, f *forward.Forward) {
	lookup := func(ctx context.Context, network, host string) ([]netip.Addr, error) {
		ctx, cancel := context.WithTimeout(ctx, wakeLookup)
		defer cancel()
		return net.DefaultResolver.LookupNetIP(ctx, network, host)
	}
	var failed error
	for _, t := range wake.Targets(ctx, f, lookup) {
		if _, err := r.magic(ctx, t); err != nil {
			failed = err
		}
	}
	switch {
	case ctx.Err() != nil:
	case failed == nil:
		w.trouble.Store(nil)
	default:
		text := strings.ReplaceAll(failed.Error(), "\n", "; ")
		if w.trouble.Swap(&text) == nil {
			r.log.Warn("waking a target", keyTarget, w.target.String(), keyError, text)
		}
	}
}

// note says whom the waker wakes, how, and for how many. The caller holds task.mu.
func (w *waker) note(now time.Time) string {
	macs := make([]string, len(w.macs))
	for i, m := range w.macs {
		macs[i] = m.String()
	}
	clients := "clients"
	if w.waiting == 1 {
		clients = "client"
	}
	host := w.target.Host
	if w.target.Addr.IsValid() {
		host = w.target.Addr.String()
	}
	text := fmt.Sprintf("waking %s (%s) for %d %s, since %d s", host, strings.Join(macs, ", "), w.waiting, clients, now.Sub(w.since)/time.Second)
	if trouble := w.trouble.Load(); trouble != nil {
		text += "; " + *trouble
	}
	return text
}

// wakeNote is the notes of all targets that are being woken. The caller holds t.mu.
func (t *task) wakeNote() string {
	var notes []string
	for _, w := range t.wakers.of {
		notes = append(notes, w.note(time.Now()))
	}
	slices.Sort(notes)
	return strings.Join(notes, "; ")
}
