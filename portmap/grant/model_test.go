package grant

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/fairlead-net/fairlead/config"
	"github.com/fairlead-net/fairlead/forward"
	"github.com/fairlead-net/fairlead/portmap"
	"github.com/fairlead-net/fairlead/store"
)

// A modelLease is a lease in the fewest words.
type modelLease struct {
	key      portmap.Key
	protocol portmap.Protocol
	external uint16
	expires  time.Time
	asking   bool
	put      time.Time     // when it came or last changed
	left     time.Duration // the most that the store says is left of it
}

// A model is what the table of leases must look like, found in the plainest way.
type model struct {
	leases   map[string]modelLease
	gone     map[string]time.Time // when it went
	taken    map[place]bool       // by the operator
	ask      bool
	verdicts map[string]verdict // by device, and by device and port
	zero     time.Time          // of the epoch
	asked    time.Time          // when something was asked for, or a program began
	most     int                // of one client
}

var modelSpec = portmap.Spec{MaxClient: 4, MinLife: 2 * time.Second, MaxLife: 20 * time.Second}

func (m *model) drop(name string) {
	if _, ok := m.leases[name]; ok {
		m.gone[name] = time.Now()
		delete(m.leases, name)
	}
}

// tick ends what is over.
func (m *model) tick() {
	for name, l := range m.leases {
		if !time.Now().Before(l.expires) {
			m.drop(name)
		}
	}
}

// operate makes list all that the operator has.
func (m *model) operate(list []*forward.Forward) {
	m.taken = map[place]bool{}
	for _, f := range list {
		if l := f.Listen; !l.Ports.All && (!l.Addr.IsValid() || l.Addr == wan) {
			for network := range l.Networks.Each {
				for port := range l.Ports.Each {
					m.taken[place{network, port}] = true
				}
			}
		}
	}
	for name, l := range m.leases {
		if l.key.Internal.Addr().Is4() && !l.asking && m.taken[place{l.key.Network, l.external}] {
			m.drop(name)
		}
	}
}

func deviceOfTest(a netip.Addr) string {
	if a == two {
		return macTwo
	}
	return macOne
}

func (m *model) verdict(key portmap.Key) verdict {
	device := deviceOfTest(key.Internal.Addr())
	if v := m.verdicts[portOf(device, key)]; v != unjudged {
		return v
	}
	return m.verdicts[device]
}

func (m *model) at(network forward.Networks, port uint16) string {
	for name, l := range m.leases {
		if l.key.Network == network && l.external == port && l.key.Internal.Addr().Is4() {
			return name
		}
	}
	return ""
}

// mapIt is what Map does, and the external port, or the error.
func (m *model) mapIt(r portmap.Request) (uint16, error) {
	name := leaseName(r.Key)
	l, there := m.leases[name]
	v4 := r.Internal.Addr().Is4()
	if v4 && there && r.Exact && r.External != 0 && r.External != l.external {
		return 0, portmap.ErrConflict
	}
	v := m.verdict(r.Key)
	if v == denied {
		return 0, portmap.ErrDenied
	}
	if !there {
		own := 0
		for _, other := range m.leases {
			own += b2i(deviceOfTest(other.key.Internal.Addr()) == deviceOfTest(r.Client))
		}
		if own >= m.most {
			return 0, portmap.ErrQuota
		}
	}
	port, err := m.choose(r, l, there)
	if err != nil {
		return 0, err
	}
	protocol := r.Protocol
	if there {
		protocol = l.protocol
	}
	asking := m.ask && v != approved && (!there || l.asking)
	life := min(max(r.Lifetime, 2*time.Second), 20*time.Second)
	m.leases[name] = modelLease{r.Key, protocol, port, time.Now().Add(life), asking, time.Now(), life}
	return port, nil
}

func (m *model) choose(r portmap.Request, l modelLease, there bool) (uint16, error) {
	taken := func(port int) bool { return m.taken[place{r.Network, uint16(port)}] }
	switch {
	case r.Internal.Addr().Is6() && r.Exact && r.External != 0 && r.External != r.Internal.Port():
		return 0, portmap.ErrConflict
	case r.Internal.Addr().Is6():
		return r.Internal.Port(), nil
	case there && !taken(int(l.external)):
		return l.external, nil
	}
	want := int(r.External)
	if want == 0 {
		want = int(r.Internal.Port())
	}
	if r.Exact && r.External != 0 {
		if taken(want) || m.at(r.Network, uint16(want)) != "" {
			return 0, portmap.ErrConflict
		}
		return uint16(want), nil
	}
	for want < 65536 {
		if !taken(want) && m.at(r.Network, uint16(want)) == "" {
			return uint16(want), nil
		}
		want++
	}
	panic("no port is left")
}

// TestAnyOrder asks for mappings in any order, has the operator come in between, time pass, and programs end and crash, and
// compares with the model. The wall clock jumps while no program runs; while one does, no other clock is looked at.
func TestAnyOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rapid.Check(struct{ testing.TB }{t}, func(rt *rapid.T) {
			d := &disk{Store: store.Memory()}
			spec := modelSpec
			spec.Ask = rapid.Bool().Draw(rt, "ask")
			m := &model{leases: map[string]modelLease{}, gone: map[string]time.Time{}, ask: spec.Ask, verdicts: map[string]verdict{}, zero: time.Now(), asked: time.Now(), most: 4}
			var file []*forward.Forward
			h := newHouse(quiet{t}, d, &spec).start()
			defer func() { h.stop() }()
			ctx := context.Background()
			again := func() {
				m.tick()
				h = newHouse(quiet{t}, d, &spec).start(file...)
				synctest.Wait() // what a crash brought back may be denied
				m.asked = time.Now()
			}
			client := rapid.SampledFrom([]netip.Addr{one, two, one6})
			network := rapid.SampledFrom([]forward.Networks{forward.TCP, forward.UDP})
			port := rapid.Uint16Range(1, 3)
			protocol := rapid.SampledFrom([]portmap.Protocol{portmap.NATPMP, portmap.PCP})
			anyKey := func(rt *rapid.T) portmap.Key {
				return portmap.Key{Network: network.Draw(rt, "network"), Internal: netip.AddrPortFrom(client.Draw(rt, "client"), port.Draw(rt, "internal"))}
			}
			rt.Repeat(map[string]func(*rapid.T){
				"map": func(rt *rapid.T) {
					r := portmap.Request{
						Protocol: protocol.Draw(rt, "protocol"), Key: anyKey(rt), External: rapid.Uint16Range(0, 6).Draw(rt, "external"),
						Exact: rapid.Bool().Draw(rt, "exact"), Lifetime: time.Duration(rapid.IntRange(1, 30).Draw(rt, "life")) * time.Second,
					}
					r.Client = r.Internal.Addr()
					m.asked = time.Now()
					want, wantErr := m.mapIt(r)
					got := h.Map(ctx, []portmap.Request{r})[0]
					if !errors.Is(got.Err, wantErr) || got.Err == nil && got.External != want {
						rt.Fatalf("%+v: %d %v, want %d %v", r, got.External, got.Err, want, wantErr)
					}
				},
				"unmap": func(rt *rapid.T) {
					key, by := anyKey(rt), client.Draw(rt, "by")
					name := leaseName(key)
					_, there := m.leases[name]
					err := h.Unmap(ctx, by, key)
					if mine := by == key.Internal.Addr(); (err != nil) != (there && !mine) {
						rt.Fatalf("%s by %s: %v", name, by, err)
					} else if mine {
						m.drop(name)
					}
				},
				"unmap all": func(rt *rapid.T) {
					by, n, p := client.Draw(rt, "by"), network.Draw(rt, "network"), protocol.Draw(rt, "protocol")
					if err := h.UnmapAll(ctx, by, n, p); err != nil {
						rt.Fatal(err)
					}
					for name, l := range m.leases {
						if l.key.Internal.Addr() == by && l.key.Network == n && l.protocol == p {
							m.drop(name)
						}
					}
				},
				"operator": func(rt *rapid.T) {
					file = nil
					listens := []string{"3", "4-5", "203.0.113.5:2", "udp/1-2", "*", "192.168.1.1:1"}
					for i, l := range rapid.SliceOfNDistinct(rapid.SampledFrom(listens), 0, 3, rapid.ID[string]).Draw(rt, "listen") {
						file = append(file, admin(t, fmt.Sprint("op", i), l))
					}
					if _, err := h.table.ReplaceFile(ctx, &config.Config{Forwards: file}); err != nil {
						rt.Fatal(err)
					}
					m.operate(file)
				},
				"rm": func(rt *rapid.T) {
					name := leaseName(anyKey(rt))
					_, there := m.leases[name]
					if err := h.table.Delete(ctx, name); (err == nil) != there {
						rt.Fatalf("rm %s: %v", name, err)
					}
					m.drop(name)
				},
				"approve or deny": func(rt *rapid.T) {
					m.judge(rt, h, rapid.SampledFrom([]verdict{approved, denied}).Draw(rt, "verdict"), anyKey(rt))
				},
				"wait": func(rt *rapid.T) {
					elapse(time.Duration(rapid.IntRange(1, 8000).Draw(rt, "wait")) * time.Millisecond)
					m.tick()
				},
				"restart": func(rt *rapid.T) {
					h.stop()
					time.Sleep(time.Duration(rapid.IntRange(0, 3000).Draw(rt, "away")) * time.Millisecond)
					again()
				},
				"restart, with the clock set": func(rt *rapid.T) {
					h.stop()
					jump := time.Duration(rapid.IntRange(-100, 100).Draw(rt, "jump")) * time.Second
					setClock(rt, d, jump)
					m.setClock(jump)
					again()
					m.setBack(rt, h, jump)
				},
				"crash": func(rt *rapid.T) {
					d.kill(true)
					h.stop()
					d.kill(false)
					quiet, clean := time.Since(m.asked), storedClean(rt, d)
					again()
					m.crashed(rt, h, quiet, clean)
					m.adopt(rt, h)
				},
				"": func(rt *rapid.T) { m.compare(rt, h) },
			})
		})
	})
}

// judge approves or denies a lease by its name, or its device.
func (m *model) judge(rt *rapid.T, h *house, v verdict, key portmap.Key) {
	m.asked = time.Now()
	which, device := leaseName(key), deviceOfTest(key.Internal.Addr())
	subject := portOf(device, key)
	mine := func(name string) bool {
		k := m.leases[name].key
		return portOf(deviceOfTest(k.Internal.Addr()), k) == subject
	}
	if _, there := m.leases[which]; !there || rapid.Bool().Draw(rt, "device") {
		which = device
		subject = device
		mine = func(name string) bool { return deviceOfTest(m.leases[name].key.Internal.Addr()) == device }
	}
	do := h.Approve
	if v == denied {
		do = h.Deny
	}
	if _, err := do(context.Background(), which); err != nil {
		rt.Fatal(err)
	}
	maps.DeleteFunc(m.verdicts, func(s string, _ verdict) bool { return strings.HasPrefix(s, subject+" ") })
	m.verdicts[subject] = v
	for _, name := range slices.Sorted(maps.Keys(m.leases)) {
		l := m.leases[name]
		switch {
		case !mine(name):
		case v == denied:
			m.drop(name)
		case l.asking:
			l.asking, l.put = false, time.Now()
			for l.key.Internal.Addr().Is4() && m.taken[place{l.key.Network, l.external}] {
				if at, _ := h.Book.named(name), 0; at != nil { // moved by approval: any free port will do
					l.external = at.port
				}
			}
			m.leases[name] = l
		}
	}
}

// setClock is what the next program finds when the wall clock was set while none ran: stored times are as much off.
func setClock(rt *rapid.T, d *disk, jump time.Duration) {
	edits := map[string][]byte{}
	err := d.Each("leases", func(name string, data []byte) error {
		var l map[string]any
		if err := json.Unmarshal(data, &l); err != nil {
			return err
		}
		s := l["Spec"].(map[string]any)
		at, err := time.Parse(time.RFC3339Nano, s["expires"].(string))
		if err != nil {
			return err
		}
		s["expires"] = at.Add(-jump).Format(time.RFC3339Nano)
		edits[name], err = json.Marshal(l)
		return err
	})
	if err != nil {
		rt.Fatal(err)
	}
	data, _ := d.Get(bucketPortmap, keyEpoch)
	var e storedEpoch
	if err := json.Unmarshal(data, &e); err != nil {
		rt.Fatal(err)
	}
	e.At = e.At.Add(-jump)
	data, _ = json.Marshal(e)
	err = d.Update(func(tx store.Tx) error {
		for name, data := range edits {
			if err := tx.Put("leases", name, data); err != nil {
				return err
			}
		}
		return tx.Put(bucketPortmap, keyEpoch, data)
	})
	if err != nil {
		rt.Fatal(err)
	}
}

// setClock has leases end sooner by as much as the clock is set ahead.
func (m *model) setClock(jump time.Duration) {
	if jump <= 0 {
		return
	}
	m.zero = m.zero.Add(-jump)
	for name, l := range m.leases {
		l.expires = l.expires.Add(-jump)
		m.leases[name] = l
	}
}

// setBack takes over when leases end after the clock was set back: by as much later, but not later than what was left of them
// when they were stored.
func (m *model) setBack(rt *rapid.T, h *house, jump time.Duration) {
	for _, x := range h.Of(netip.Addr{}) {
		l, ok := m.leases[x.Name]
		if !ok || jump >= 0 {
			continue
		}
		if late := x.Expires.Sub(l.expires); late < 0 || late > -jump || time.Until(x.Expires) > l.left {
			rt.Fatalf("%s ends at %s, was to at %s; the clock was set back by %s", x.Name, x.Expires, l.expires, jump)
		}
		l.expires = x.Expires
		m.leases[x.Name] = l
	}
}

func (m *model) compare(rt *rapid.T, h *house) {
	m.tick()
	var got, want []string
	line := func(l modelLease) string {
		return fmt.Sprint(l.key, " ", l.protocol, " ", l.external, " ", l.asking, " ", l.expires.UTC().Truncate(time.Millisecond))
	}
	for _, x := range h.Of(netip.Addr{}) {
		got = append(got, x.Name+": "+line(modelLease{x.Key, x.Protocol, x.External, x.Expires, x.Asking, time.Time{}, 0}))
	}
	for name, l := range m.leases {
		want = append(want, name+": "+line(l))
	}
	slices.Sort(want)
	if g, w := strings.Join(got, "\n"), strings.Join(want, "\n"); g != w {
		rt.Fatalf("there is\n%s\nwant\n%s", g, w)
	}
	carried := map[string]bool{}
	for _, s := range h.table.Snapshot() {
		f := s.Forward
		if !f.Origin.IsLease() {
			continue
		}
		carried[f.Name] = true
		if l, ok := m.leases[f.Name]; !ok || l.external != f.Listen.Ports.Ranges[0].First || f.Disabled != l.asking || (s.State == forward.StateUp) == l.asking {
			rt.Fatalf("the table has %+v, want %+v", s, l)
		}
	}
	if len(carried) != len(m.leases) {
		rt.Fatalf("the table has %d leases, want %d", len(carried), len(m.leases))
	}
	if epoch, want := int64(h.Epoch()), int64(time.Since(m.zero)/time.Second); epoch < want-30 || epoch > want+1 {
		rt.Fatalf("the epoch is %d, want %d", epoch, want)
	}
	h.Book.mu.RLock()
	defer h.Book.mu.RUnlock()
	if len(h.Book.byName) != len(m.leases) || h.Book.counted() != len(m.leases) {
		rt.Fatalf("the book counts %d and %d, want %d", len(h.Book.byName), h.Book.counted(), len(m.leases))
	}
	for i, network := range []forward.Networks{forward.TCP, forward.UDP} {
		for port := range uint16(20) {
			if h.Book.used[i].Has(port) != (m.at(network, port) != "") {
				rt.Fatalf("%s port %d: used is %v", network, port, h.Book.used[i].Has(port))
			}
		}
	}
}

// counted is the leases of all devices.
func (b *Book) counted() (n int) {
	for _, own := range b.devices {
		n += own
	}
	return n
}
