package grant

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"time"

	"github.com/fairlead-net/fairlead/store"
)

const (
	bucketPortmap = "portmap"
	keyEpoch      = "epoch" // a storedEpoch as JSON
)

// An epoch is how old the mappings are, by the clock that cannot be set: clients take one that goes more slowly than their own
// for a server that has lost them (RFC 6886, section 3.6; RFC 6887, section 8.5).
type epoch struct {
	base  time.Duration // at since
	since time.Time
}

func (e epoch) seconds() uint32 {
	if e.since.IsZero() {
		return 0
	}
	return uint32(min((e.base + time.Since(e.since)).Seconds(), math.MaxUint32))
}

// A storedEpoch is what the store has of it. While leases are granted it is not clean (see safety): whatever ends the program then
// may take some with it that are not stored yet.
type storedEpoch struct {
	Seconds uint32    `json:"seconds"` // at At
	At      time.Time `json:"at"`
	Clean   bool      `json:"clean"`

	Address netip.Addr `json:"address"` // that clients were told last; "" was none
}

// resume is the epoch after what an earlier program left, at an address that clients are told now. The time in between counts as
// far as the wall clock tells; when it says that there was less than none, none.
func resume(was storedEpoch, told netip.Addr, now time.Time) epoch {
	if !was.Clean || told.IsValid() && was.Address.IsValid() && told != was.Address {
		return epoch{since: now}
	}
	base := time.Duration(was.Seconds) * time.Second
	if away := now.Round(0).Sub(was.At); away > 0 {
		base += away
	}
	return epoch{base: base, since: now}
}

// loadEpoch goes on where the last program ended, and makes outside this host's address.
func (d *Desk) loadEpoch(outside Outside) error {
	data, err := d.Store.Get(bucketPortmap, keyEpoch)
	if err != nil {
		data, err = nil, fmt.Errorf("the age of the mappings cannot be read: %w", err)
	}
	var was storedEpoch
	if data != nil && json.Unmarshal(data, &was) != nil {
		was = storedEpoch{}
	}
	d.mu.Lock()
	d.epoch = resume(was, outside.told(), time.Now())
	d.outside, d.last = outside, was.Address
	if outside.told().IsValid() {
		d.last = outside.told()
	}
	d.mu.Unlock()
	return errors.Join(err, d.safety.open(d))
}

// restartEpoch has clients ask for all their mappings again.
func (d *Desk) restartEpoch() error {
	d.mu.Lock()
	d.epoch = epoch{since: time.Now()}
	d.mu.Unlock()
	return d.safety.rewrite(d)
}

func (d *Desk) saveEpoch(clean bool) error {
	d.mu.RLock()
	out := storedEpoch{Seconds: d.epoch.seconds(), At: time.Now().UTC(), Clean: clean, Address: d.last}
	d.mu.RUnlock()
	data, err := json.Marshal(out)
	if err != nil {
		return err
	}
	if err := d.Store.Update(func(tx store.Tx) error { return tx.Put(bucketPortmap, keyEpoch, data) }); err != nil {
		return fmt.Errorf("the age of the mappings cannot be stored: %w", err)
	}
	return nil
}
