package relay

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/fairlead-net/fairlead/forward"
)

// A WakeError says that a target was woken for a client and did not come up.
type WakeError struct {
	Target string // the address that was dialled last
	Within time.Duration
	Err    error // of the last try
}

func (e *WakeError) Error() string {
	return fmt.Sprintf("target %s: magic packets were sent, and it was not up within %s: %v", e.Target, forward.FormatDuration(e.Within), cause(e.Err))
}
func (e *WakeError) Unwrap() error { return e.Err }

// reach is dialTargets for a client that can be held. When no target of a forward with wake answers, those that are silent
// are woken, and tried again and again until one is up. What the client sends meanwhile stays in its socket. leaves, if not
// nil, is called before each try and may cancel ctx.
//
//	dialled ──(one answers, or none is silent)──► done
//	   └─(all silent or refuse)─► waking ──(one answers)──► done
//	                                 ├─(Wake.Within is over)──► WakeError
//	                                 └─(client leaves, is killed)──► canceled
func (r *Relay) reach(ctx context.Context, s *session, f *forward.Forward, leaves func()) (dialled, error) {
	began := time.Now()
	d, err := r.dialTargets(ctx, s, f)
	if len(f.Wake.MACs) == 0 || len(silentOf(err)) == 0 {
		return d, err
	}
	v := vigil{relay: r, task: s.task, f: f}
	defer v.end()
	within, cancel := context.WithTimeout(ctx, f.Wake.Within())
	defer cancel()
	for {
		last := err
		v.wait(within, silentOf(err), began.Add(wakeRetry))
		if leaves != nil {
			leaves()
		}
		began = time.Now()
		if d, err = r.dialTargets(within, s, f); err == nil {
			return d, nil
		}
		switch {
		case ctx.Err() != nil:
			return dialled{}, ctx.Err()
		case within.Err() != nil:
			return dialled{}, gaveUp(f, last)
		case isScarce(err):
			return dialled{}, err
		}
	}
}

// silentOf are the targets that may be asleep, of an error of dialTargets.
func silentOf(err error) []forward.Target {
	var dial *DialError
	if errors.As(err, &dial) {
		return dial.silent
	}
	return nil
}

func gaveUp(f *forward.Forward, last error) error {
	var dial *DialError
	if errors.As(last, &dial) {
		return &WakeError{Target: dial.Target, Within: f.Wake.Within(), Err: dial.Err}
	}
	return last
}

// A vigil is a client's wait for targets to wake up.
type vigil struct {
	relay *Relay
	task  *task
	f     *forward.Forward
	held  []*waker
}

// wait has the silent targets woken, and returns at the time of the next try: then, or when one of the targets answered to
// somebody else.
func (v *vigil) wait(ctx context.Context, silent []forward.Target, then time.Time) {
	awake := v.join(ctx, silent)
	timer := time.NewTimer(time.Until(then))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-awake:
	case <-ctx.Done():
	}
}

// join has the silent targets woken that are not already for this client, and returns what tells that one is up.
func (v *vigil) join(ctx context.Context, silent []forward.Target) (awake <-chan struct{}) {
	for _, target := range silent {
		if !slices.ContainsFunc(v.held, func(w *waker) bool { return w.target == target && v.task.wakes(w) }) {
			v.held = append(v.held, v.relay.joinWaker(ctx, v.task, v.f, target))
		}
	}
	v.task.mu.Lock()
	defer v.task.mu.Unlock()
	return v.task.wakers.awake
}

func (v *vigil) end() {
	for _, w := range v.held {
		v.task.leaveWaker(w)
	}
}
