package table

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/fairlead-net/fairlead/config"
	"github.com/fairlead-net/fairlead/forward"
	"github.com/fairlead-net/fairlead/store"
)

// bucketLeases has, by name, a storedLease as JSON.
const bucketLeases = "leases"

// saveLeasesAfter is how long a lease may wait to be stored. Writing each before it is granted would cost a write to the disk
// for each request, when thousands come in a second; and a lease that a crash takes is asked for again.
const saveLeasesAfter = 500 * time.Millisecond

// A storedLease is a lease in the store. Its end is a time of the wall clock, which need not be right when it is read: then Left
// is the most that is left of it.
type storedLease struct {
	Spec     config.Spec
	Origin   forward.Origin
	Lease    forward.Lease
	Outbound bool          `json:",omitempty"`
	Left     time.Duration // when it was written

	ends time.Time // by the wall clock of then
}

// noteLocked tells who wants to know, and has the store told in time. The caller holds mu.
func (t *Table) noteLocked(now, before *forward.Forward) {
	if now != nil {
		t.unsaved[now.Name] = now
	} else {
		t.unsaved[before.Name] = nil
	}
	nudge(t.save)
	t.lease(now, before)
}

// saveLeases stores what is unsaved, all that came meanwhile in one write, until ctx ends.
func (t *Table) saveLeases(ctx context.Context) {
	for {
		select {
		case <-t.save:
		case <-ctx.Done():
			return
		}
		select {
		case <-time.After(saveLeasesAfter):
		case <-ctx.Done():
			return
		}
		if err := t.SaveLeases(); err != nil {
			t.log.Error("leases cannot be stored yet; a restart would lose them", keyErr, err)
		}
	}
}

// SaveLeases stores what is unsaved now, which otherwise is in half a second. What cannot be is tried again.
func (t *Table) SaveLeases() error {
	t.saving.Lock() // in the order of what happened
	defer t.saving.Unlock()
	t.mu.Lock()
	unsaved := t.unsaved
	t.unsaved = make(map[string]*forward.Forward, len(unsaved))
	t.mu.Unlock()
	if len(unsaved) == 0 {
		return nil
	}
	err := t.store.Update(func(tx store.Tx) error {
		for name, f := range unsaved {
			if f == nil {
				if err := tx.Delete(bucketLeases, name); err != nil {
					return err
				}
				continue
			}
			data, err := encodeLease(f)
			if err == nil {
				err = tx.Put(bucketLeases, name, data)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err == nil {
		return nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for name, f := range unsaved {
		if _, newer := t.unsaved[name]; !newer {
			t.unsaved[name] = f
		}
	}
	nudge(t.save)
	return fmt.Errorf("%d leases: %w", len(unsaved), err)
}

func encodeLease(f *forward.Forward) ([]byte, error) {
	out := storedLease{Spec: config.SpecOf(f), Origin: f.Origin, Outbound: f.Outbound, Left: time.Until(f.Expires)}
	if f.Lease != nil {
		out.Lease = *f.Lease
	}
	return json.Marshal(&out)
}

// decodeLease is what encodeLease wrote. The end of the lease is told by the clock that cannot be set.
func decodeLease(name string, data []byte, now time.Time) (in storedLease, f *forward.Forward, err error) {
	if err := json.Unmarshal(data, &in); err != nil {
		return in, nil, err
	}
	if !in.Origin.IsLease() {
		return in, nil, fmt.Errorf("%q is not the origin of a lease", in.Origin)
	}
	if f, err = in.Spec.Forward(name, in.Origin); err != nil {
		return in, nil, err
	}
	f.Lease, f.Outbound = &in.Lease, in.Outbound
	if in.ends = f.Expires; in.ends.IsZero() {
		return in, nil, errors.New("it has no end")
	}
	f.Expires = now.Add(min(in.ends.Sub(now), in.Left))
	return in, f, nil
}

// loadLeases takes the stored leases into the table, as far as they have not ended and nothing else has their names and
// traffic: a lease is never set aside, since its client asks again. The caller holds writing.
func (t *Table) loadLeases() error {
	ch := change{stored: true, refuse: func(f *forward.Forward, err error) {
		t.log.Warn("a stored lease gives way", keyForward, f.Name, keyOrigin, f.Origin, keyErr, err)
		t.unsaved[f.Name] = nil
	}}
	now := time.Now()
	err := t.store.Each(bucketLeases, func(name string, data []byte) error {
		in, f, err := decodeLease(name, data, now)
		switch {
		case err != nil:
			t.log.Warn("a stored lease cannot be used", keyForward, name, keyErr, err)
			t.unsaved[name] = nil
		case !now.Before(f.Expires):
			t.unsaved[name] = nil
		case t.byName[name] != nil:
			ch.refuse(f, &ConflictError{Name: name, Owner: t.byName[name].f.Origin})
		default:
			ch.put = append(ch.put, f)
			if in.Left < in.ends.Sub(now) { // the wall clock was set back: what is stored is too late
				t.unsaved[name] = f
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("the stored leases cannot be read: %w", err)
	}
	if len(t.unsaved) > 0 {
		nudge(t.save)
	}
	_, err = t.commit(ch)
	return err
}
