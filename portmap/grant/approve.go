package grant

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/fairlead-net/fairlead/forward"
	"github.com/fairlead-net/fairlead/portmap"
	"github.com/fairlead-net/fairlead/store"
)

// bucketApprovals has, by device or by device and internal port ("02:00:00:00:00:01 udp/3074"), an approval as JSON.
const bucketApprovals = "approvals"

// An approval is what the operator said of a device, or of one port of it.
type approval struct {
	Verdict verdict   `json:"verdict"`
	Since   time.Time `json:"since"`
}

type verdict string

const (
	unjudged verdict = ""
	approved verdict = "approved"
	denied   verdict = "denied"
)

// ErrUnknown is wrapped where nobody is meant by what was approved or denied.
var ErrUnknown = errors.New("neither a lease nor a device")

// Approve has leases that wait lead somewhere: one lease by its name, or all that a device has and will have, by its hardware or
// IP address. It is remembered, of a lease by its device, its transport and its internal port, whichever of its addresses that is at. The names are those of the leases that waited.
func (d *Desk) Approve(ctx context.Context, which string) (names []string, err error) {
	return d.judgeAll(ctx, which, approved)
}

// Known reports whether anything is known here of the host at an address: of one that never was here a verdict is of the address,
// whoever has it when somebody asks. What is no IP address is known.
func (d *Desk) Known(ctx context.Context, which string) bool {
	addr, err := netip.ParseAddr(which)
	if err != nil {
		return true
	}
	unlock, err := d.decide(ctx)
	if err != nil {
		return true
	}
	defer unlock()
	_, known := d.macOf(addr.Unmap().WithZone(""))
	return known
}

// Deny ends leases, as Approve names them, and refuses them from now on.
func (d *Desk) Deny(ctx context.Context, which string) (names []string, err error) {
	return d.judgeAll(ctx, which, denied)
}

// judge is what was said of a mapping: the port's own verdict goes before that of the device.
func (d *Desk) judge(mac string, client netip.Addr, key portmap.Key) verdict {
	d.mu.RLock()
	defer d.mu.RUnlock()
	if len(d.approvals) == 0 {
		return unjudged
	}
	for _, device := range []string{mac, client.String()} {
		if device == "" {
			continue
		}
		if v := d.approvals[portOf(device, key)].Verdict; v != unjudged {
			return v
		}
	}
	if v := d.approvals[mac].Verdict; v != unjudged && mac != "" {
		return v
	}
	return d.approvals[client.String()].Verdict
}

// portOf names one port of a device.
func portOf(device string, key portmap.Key) string {
	return fmt.Sprintf("%s %s/%d", device, key.Network, key.Internal.Port())
}

func (d *Desk) judgeAll(ctx context.Context, which string, v verdict) ([]string, error) {
	unlock, err := d.decide(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	subject, leases, err := d.meant(which)
	if err != nil {
		return nil, err
	}
	if err := d.remember(subject, v); err != nil {
		return nil, err
	}
	d.Log.Info("the operator has decided", "verdict", string(v), "of", subject, keyCount, len(leases))
	if v == denied {
		err = d.drop(ctx, leases, "lease ended by the operator")
	} else {
		leases, err = d.wakeUp(ctx, leases)
	}
	names := make([]string, len(leases))
	for i, r := range leases {
		names[i] = r.f.Name
	}
	return names, err
}

// meant finds what of whom is approved or denied, and the leases that it has now. The caller holds deciding.
func (d *Desk) meant(which string) (subject string, leases []*record, err error) {
	if r := d.Book.named(which); r != nil {
		subject = portOf(r.device(), r.key)
		return subject, d.leasesOf(func(x *record) bool { return portOf(x.device(), x.key) == subject }), nil
	}
	device := ""
	if mac, err := net.ParseMAC(which); err == nil && len(mac) == 6 {
		device = mac.String()
	} else if addr, err := netip.ParseAddr(which); err == nil {
		addr = addr.Unmap().WithZone("")
		mac, _ := d.macOf(addr)
		device = deviceOf(mac, addr)
	} else {
		return "", nil, fmt.Errorf("%q is %w", which, ErrUnknown)
	}
	return device, d.leasesOf(func(r *record) bool { return r.device() == device }), nil
}

func (d *Desk) leasesOf(whom func(*record) bool) []*record {
	return slices.DeleteFunc(d.Book.list(netip.Addr{}), func(r *record) bool { return !whom(r) })
}

// remember stores a verdict. That of a device takes the place of those of its ports.
func (d *Desk) remember(subject string, v verdict) error {
	a := approval{v, time.Now().UTC().Round(time.Second)}
	data, err := json.Marshal(a)
	if err != nil {
		return err
	}
	d.mu.RLock()
	var gone []string
	for s := range d.approvals {
		if strings.HasPrefix(s, subject+" ") {
			gone = append(gone, s)
		}
	}
	d.mu.RUnlock()
	err = d.Store.Update(func(tx store.Tx) error {
		for _, s := range gone {
			if err := tx.Delete(bucketApprovals, s); err != nil {
				return err
			}
		}
		return tx.Put(bucketApprovals, subject, data)
	})
	if err != nil {
		return fmt.Errorf("what was decided cannot be stored: %w", err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, s := range gone {
		delete(d.approvals, s)
	}
	d.approvals[subject] = a
	return nil
}

// wakeUp has those of leases that wait lead somewhere, and returns them. One whose port went to an operator's forward meanwhile
// gets another, which its client learns when it asks again. The caller holds deciding.
func (d *Desk) wakeUp(ctx context.Context, leases []*record) ([]*record, error) {
	d.mu.RLock()
	outside := d.outside
	d.mu.RUnlock()
	var put []*forward.Forward
	var waited []*record
	var reserved []place
	for _, r := range leases {
		if !r.f.Lease.Asking {
			continue
		}
		f := r.clone()
		f.Lease.Asking, f.Disabled = false, f.Lease.Off
		if at, moved := d.settlePort(f, r, outside); moved {
			reserved = append(reserved, at)
		}
		put, waited = append(put, f), append(waited, newRecord(f))
	}
	if len(put) == 0 {
		return nil, nil
	}
	defer func() { d.Book.release(reserved) }()
	defer d.safety.begin(d)() // it may have another port
	batch, err := d.Table.Batch(ctx, put, nil)
	if err != nil {
		return nil, err
	}
	errs, err := batch.Wait(ctx)
	return waited, errors.Join(append(slices.Clone(errs), err)...)
}

// settlePort gives f another port where an operator's forward has its own.
func (d *Desk) settlePort(f *forward.Forward, r *record, outside Outside) (place, bool) {
	if r.pinhole {
		return place{}, false
	}
	taken := d.Table.Taken(outside.Addr, r.key.Network)
	if !taken.Has(r.port) {
		return place{}, false
	}
	port, ok := d.Book.near(r.key.Network, r.port, allowed{all: true}, taken, func(port uint16) bool {
		return d.free(r.key.Network, netip.AddrPortFrom(outside.Addr, port))
	})
	if !ok {
		return place{}, false // the table refuses it
	}
	f.Listen.Ports = onePort(port)
	at := place{r.key.Network, port}
	return at, d.Book.reserve(at)
}

// clone is a forward like r's that may be changed.
func (r *record) clone() *forward.Forward {
	f, l := *r.f, *r.f.Lease
	f.Lease = &l
	return &f
}

// loadApprovals reads what was said before.
func (d *Desk) loadApprovals() error {
	read := map[string]approval{}
	err := d.Store.Each(bucketApprovals, func(subject string, data []byte) error {
		var a approval
		if err := json.Unmarshal(data, &a); err != nil || a.Verdict != approved && a.Verdict != denied {
			d.Log.Warn("a stored approval cannot be read; it has to be given again", "of", subject)
			return nil
		}
		read[subject] = a
		return nil
	})
	if err != nil {
		return fmt.Errorf("the stored approvals cannot be read: %w", err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.approvals = read
	return nil
}
