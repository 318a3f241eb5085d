package grant

import (
	"encoding/json"
	"errors"
	"net/netip"
	"time"

	"pgregory.net/rapid"

	"github.com/fairlead-net/fairlead/portmap"
)

// crashed checks the epoch after a crash that came so long after the last request: it goes on where the store was known to have all, where
// nothing is lost then, and that is so where nothing was asked for in a while.
func (m *model) crashed(rt *rapid.T, h *house, quiet time.Duration, clean bool) {
	if !clean {
		if quiet > 2*settleAfter+time.Second || h.Epoch() != 0 {
			rt.Fatalf("nothing was granted for %s, the store does not say that it has all, and the epoch is %d", quiet, h.Epoch())
		}
		m.zero = time.Now()
		return
	}
	for name, l := range m.leases {
		x, there := h.ByKey(l.key)
		switch taken := m.taken[place{l.key.Network, l.external}]; {
		case !there && !taken:
			rt.Fatalf("the epoch goes on, and %s is lost", name)
		case there && (x.External != l.external || x.Expires.Before(l.expires.Add(-time.Millisecond))):
			rt.Fatalf("the epoch goes on, and %s is %+v, was %+v", name, x, l)
		}
	}
}

// storedClean is whether the store says that it has all.
func storedClean(rt *rapid.T, d *disk) bool {
	var e storedEpoch
	data, err := d.Get(bucketPortmap, keyEpoch)
	if err = errors.Join(err, json.Unmarshal(data, &e)); err != nil {
		rt.Fatal(err)
	}
	return e.Clean
}

// adopt takes what is there after a crash, which may be what was a second before.
func (m *model) adopt(rt *rapid.T, h *house) {
	now := time.Now()
	got := map[string]portmap.Mapping{}
	for _, x := range h.Of(netip.Addr{}) {
		got[x.Name] = x
	}
	for name, l := range m.leases {
		if _, ok := got[name]; !ok && now.Sub(l.put) > time.Second && !m.taken[place{l.key.Network, l.external}] {
			rt.Fatalf("%s is lost, which was put %s ago", name, now.Sub(l.put))
		}
	}
	for name, x := range got {
		if l, ok := m.leases[name]; !ok && now.Sub(m.gone[name]) > time.Second {
			rt.Fatalf("%s is back, which went %s ago", name, now.Sub(m.gone[name]))
		} else if ok && now.Sub(l.put) > time.Second && (l.external != x.External || l.asking != x.Asking) {
			rt.Fatalf("%s is %+v, was %+v", name, x, l)
		}
	}
	m.leases = map[string]modelLease{}
	for name, x := range got {
		m.leases[name] = modelLease{x.Key, x.Protocol, x.External, x.Expires, x.Asking, now, 20 * time.Second}
	}
}
