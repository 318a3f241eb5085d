package grant

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/fairlead-net/fairlead/forward"
	"github.com/fairlead-net/fairlead/store"
)

// A Verdict is what the operator said of a device, or of one port of it, and what is remembered.
type Verdict struct {
	Device   string           // hardware address, or IP address where none was known
	Network  forward.Networks // with Port; 0: all that the device asks for
	Port     uint16           // of the device
	Approved bool             // else denied
	Since    time.Time
	Hostname string // of the device, as its leases have it; "" is not known
}

// Verdicts is what is remembered, by device and then by port.
func (d *Desk) Verdicts() []Verdict {
	names := map[string]string{}
	for _, r := range d.Book.list(netip.Addr{}) {
		if name := r.f.Lease.Hostname; name != "" {
			names[r.device()] = name
		}
	}
	d.mu.RLock()
	defer d.mu.RUnlock()
	list := make([]Verdict, 0, len(d.approvals))
	for subject, a := range d.approvals {
		v := a.of(subject)
		v.Hostname = names[v.Device]
		list = append(list, v)
	}
	return sortedVerdicts(list)
}

func sortedVerdicts(list []Verdict) []Verdict {
	slices.SortFunc(list, func(a, b Verdict) int {
		return cmp.Or(strings.Compare(a.Device, b.Device), cmp.Compare(a.Port, b.Port), cmp.Compare(a.Network, b.Network))
	})
	return list
}

// of is a as what was said of a subject.
func (a approval) of(subject string) Verdict {
	device, port, _ := strings.Cut(subject, " ")
	v := Verdict{Device: device, Approved: a.Verdict == approved, Since: a.Since}
	v.Network, v.Port, _ = parsePort(port)
	return v
}

// parsePort reads "udp/3074".
func parsePort(s string) (network forward.Networks, port uint16, ok bool) {
	word, number, _ := strings.Cut(s, "/")
	n, err := strconv.ParseUint(number, 10, 16)
	switch word {
	case "tcp":
		network = forward.TCP
	case "udp":
		network = forward.UDP
	}
	if network == 0 || err != nil {
		return 0, 0, false
	}
	return network, uint16(n), true
}

// Forget has nothing remembered of a lease by its name, of one port of a device ("02:00:5e:10:00:01/udp/3074"), or of a device by
// its hardware or IP address, its ports included, and returns what was. Leases that there are stay as they are. Where there was
// nothing the error wraps ErrUnknown.
func (d *Desk) Forget(ctx context.Context, which string) ([]Verdict, error) {
	unlock, err := d.decide(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	subjects := d.remembered(which)
	if len(subjects) == 0 {
		return nil, fmt.Errorf("nothing is remembered of %q: %w", which, ErrUnknown)
	}
	err = d.Store.Update(func(tx store.Tx) error {
		for _, s := range subjects {
			if err := tx.Delete(bucketApprovals, s); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("what was decided cannot be taken out of the store: %w", err)
	}
	d.mu.Lock()
	var gone []Verdict
	for _, s := range subjects {
		gone = append(gone, d.approvals[s].of(s))
		delete(d.approvals, s)
	}
	d.mu.Unlock()
	d.Log.Info("the operator's decisions are forgotten", "of", which, keyCount, len(gone))
	return sortedVerdicts(gone), nil
}

// remembered is the subjects that are meant by which and of which something is remembered. The caller holds deciding.
func (d *Desk) remembered(which string) []string {
	var meant []string // devices, or one port of them
	if r := d.Book.named(which); r != nil {
		meant = []string{portOf(r.device(), r.key)}
	} else {
		device, port := which, ""
		if head, number, ok := cutLast(which); ok {
			if head, word, ok := cutLast(head); ok {
				device, port = head, " "+word+"/"+number
			}
		}
		if mac, err := net.ParseMAC(device); err == nil {
			meant = []string{mac.String() + port}
		} else if addr, err := netip.ParseAddr(device); err == nil {
			addr = addr.Unmap().WithZone("")
			meant = []string{addr.String() + port}
			if mac, _ := d.macOf(addr); mac != "" {
				meant = append(meant, mac+port)
			}
		}
	}
	d.mu.RLock()
	defer d.mu.RUnlock()
	var out []string
	for s := range d.approvals {
		if slices.ContainsFunc(meant, func(m string) bool { return s == m || !strings.Contains(m, " ") && strings.HasPrefix(s, m+" ") }) {
			out = append(out, s)
		}
	}
	return out
}

func cutLast(s string) (before, after string, ok bool) {
	i := strings.LastIndexByte(s, '/')
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+1:], true
}

// macOf is the hardware address of a host, and whether anything is known of it: that, or a lease. The caller holds deciding.
func (d *Desk) macOf(addr netip.Addr) (mac string, known bool) {
	mac, _ = d.lookUp(addr)
	leases := d.Book.list(addr)
	for _, r := range leases {
		if mac == "" && r.f.Lease.Client == addr {
			mac = r.f.Lease.MAC
		}
	}
	return mac, mac != "" || len(leases) > 0
}
