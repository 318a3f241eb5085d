package grant

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/fairlead-net/fairlead/forward"
	"github.com/fairlead-net/fairlead/portmap"
	"github.com/fairlead-net/fairlead/table"
)

func rules(t testing.TB, list ...string) (out []portmap.Rule) {
	t.Helper()
	for _, s := range list {
		r, err := portmap.ParseRule(s)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, r)
	}
	return out
}

func TestPolicy(t *testing.T) {
	ports := func(s string) forward.Ports {
		p, err := forward.ParsePorts(s)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	type ask struct{ request, describe, public string }
	for name, c := range map[string]struct {
		spec portmap.Spec
		asks []ask
	}{
		"ports": {portmap.Spec{Ports: ports("1024-1026,2000")}, []ask{
			{"natpmp tcp 192.168.1.20:9 9", "", "203.0.113.5:1024"}, // Apple learns the address with it
			{"natpmp tcp 192.168.1.20:1 65000", "", "203.0.113.5:2000"},
			{"upnp tcp 192.168.1.20:2 80!", "", "not allowed"},
			{"natpmp tcp 192.168.1.20:3 1025", "", "203.0.113.5:1025"},
			{"natpmp tcp 192.168.1.20:4 1025", "", "203.0.113.5:1026"},
			{"natpmp tcp 192.168.1.20:5 1025", "", "no port is left"},
			{"natpmp udp 192.168.1.20:5 1025", "", "203.0.113.5:1025"},
			{"pcp tcp [2001:db8:1::20]:443", "", "[2001:db8:1::20]:443"}, // its own port, and none of this host's
		}},
		"allow": {portmap.Spec{Allow: rules(t, "192.168.1.20 1024-65535", "* 22 *ssh*", macTwo+" udp/*")}, []ask{
			{"upnp tcp 192.168.1.20:80 80!", "", "not allowed"},
			{"natpmp tcp 192.168.1.20:80 80", "", "203.0.113.5:1024"},
			{"upnp tcp 192.168.1.20:22 22!", "OpenSSH", "203.0.113.5:22"},
			{"upnp tcp 192.168.1.30:23 23!", "telnet", "not allowed"},
			{"upnp udp 192.168.1.30:23 23!", "telnet", "203.0.113.5:23"},
			{"upnp tcp 192.168.1.40:1 1!", "", "not allowed"},
		}},
		"deny": {portmap.Spec{Deny: rules(t, "* 1-1023", macTwo+" *", "* udp/* *torrent*"), Allow: rules(t, "192.168.1.0/24")}, []ask{
			{"natpmp tcp 192.168.1.20:80 80", "", "203.0.113.5:1024"},
			{"natpmp tcp 192.168.1.30:80 8000", "", "not allowed"},
			{"upnp udp 192.168.1.20:6881 6881!", "BitTorrent client", "not allowed"},
			{"upnp tcp 192.168.1.20:6881 6881!", "BitTorrent client", "203.0.113.5:6881"},
		}},
		"quota of a client": {portmap.Spec{MaxClient: 2}, []ask{
			{"natpmp tcp 192.168.1.20:1", "", "203.0.113.5:1"},
			{"pcp tcp [2001:db8:1::20]:1", "", "[2001:db8:1::20]:1"},
			{"pcp tcp [2001:db8:1::2020]:1", "", "too many"},
			{"natpmp tcp 192.168.1.20:1", "", "203.0.113.5:1"},
			{"natpmp tcp 192.168.1.30:1", "", "203.0.113.5:2"},
		}},
		"quota of all": {portmap.Spec{MaxLeases: 1}, []ask{
			{"natpmp tcp 192.168.1.20:1", "", "203.0.113.5:1"},
			{"natpmp tcp 192.168.1.30:1", "", "there are 1 leases"},
			{"natpmp tcp 192.168.1.20:1", "", "203.0.113.5:1"},
		}},
	} {
		t.Run(name, func(t *testing.T) {
			inHouse(t, &c.spec, func(h *house) {
				for _, a := range c.asks {
					r := request(h.t, a.request)
					r.Describe = a.describe
					got := h.Map(h.t.Context(), []portmap.Request{r})[0]
					if text := got.Public.String(); got.Err == nil && text != a.public || got.Err != nil && !strings.Contains(got.Err.Error(), a.public) {
						h.t.Errorf("%s: %s %v, want %s", a.request, text, got.Err, a.public)
					}
				}
			})
		})
	}
}

// A policy that is made stricter ends what it does not allow.
func TestPolicyChanges(t *testing.T) {
	inHouse(t, &portmap.Spec{}, func(h *house) {
		h.ask("natpmp tcp 192.168.1.20:80")
		h.ask("natpmp tcp 192.168.1.20:8080")
		h.ask("natpmp tcp 192.168.1.30:8080")
		h.Configure(&portmap.Spec{Deny: rules(h.t, "* 1-1023", "192.168.1.30")})
		synctest.Wait()
		h.wantCarried("lease-192.168.1.20-tcp-8080 tcp/203.0.113.5:8080 192.168.1.20:8080")
		if !h.logged("the policy does not allow it") {
			h.t.Error("it is not logged")
		}
	})
}

func TestNearest(t *testing.T) {
	var used table.PortBits
	set := func(list ...uint16) *table.PortBits {
		b := new(table.PortBits)
		for _, p := range list {
			b.Set(p)
		}
		return b
	}
	for p := range 1000 {
		used.Set(uint16(2000 + p))
	}
	yes := func(uint16) bool { return true }
	for _, c := range []struct {
		want  uint16
		may   allowed
		taken *table.PortBits
		ok    func(uint16) bool
		got   uint16
	}{
		{80, allowed{all: true}, nil, yes, 80},
		{80, allowed{all: true}, set(80, 81, 82), yes, 83},
		{2000, allowed{all: true}, nil, yes, 3000},
		{2500, allowed{all: true}, set(3000, 3001), yes, 3002},
		{2500, allowed{bits: set(1, 1999)}, nil, yes, 1999},
		{64, allowed{bits: set(0, 63)}, nil, yes, 63},
		{65535, allowed{all: true}, set(65535), yes, 65534},
		{1, allowed{bits: set(0)}, nil, yes, 0},
		{10, allowed{all: true}, nil, func(p uint16) bool { return p == 9 }, 9},
		{10, allowed{all: true}, nil, func(p uint16) bool { return p == 12 }, 12},
		{10, allowed{all: true}, nil, func(uint16) bool { return false }, 0},
	} {
		if got, ok := nearest(c.want, c.may, &used, c.taken, c.ok); got != c.got || ok != (c.got != 0) {
			t.Errorf("near %d: %d %v, want %d", c.want, got, ok, c.got)
		}
	}
}

func TestAsk(t *testing.T) {
	inHouse(t, &portmap.Spec{Ask: true}, func(h *house) {
		r := h.want("upnp udp 192.168.1.20:3074 3074!", "203.0.113.5:3074")
		if !r.Asking || !h.logged("fairlead leases approve lease-192.168.1.20-udp-3074") {
			h.t.Errorf("asking is %v, or it is not logged", r.Asking)
		}
		h.want("upnp udp 192.168.1.20:3075 3075!", "203.0.113.5:3075")
		h.want("upnp udp 192.168.1.30:3074 3074!", "the external port is taken") // it is promised
		h.want("natpmp udp 192.168.1.30:3074 3074", "203.0.113.5:3076")
		h.wantCarried()
		names, err := h.Approve(h.t.Context(), "lease-192.168.1.20-udp-3074")
		if err != nil || fmt.Sprint(names) != "[lease-192.168.1.20-udp-3074]" {
			h.t.Error(names, err)
		}
		h.wantCarried("lease-192.168.1.20-udp-3074 udp/203.0.113.5:3074 192.168.1.20:3074")
		if names, err = h.Approve(h.t.Context(), "02-00-00-00-00-20"); err != nil || fmt.Sprint(names) != "[lease-192.168.1.20-udp-3075]" {
			h.t.Error(names, err)
		}
		if r := h.ask("upnp tcp 192.168.1.20:80 80!"); r.Err != nil || r.Asking { // the device is known now
			h.t.Errorf("%+v", r)
		}
		if r := h.ask("pcp tcp [2001:db8:1::20]:80"); r.Err != nil || r.Asking {
			h.t.Errorf("%+v", r)
		}
		if names, err = h.Deny(h.t.Context(), "192.168.1.20"); err != nil || len(names) != 4 {
			h.t.Error(names, err)
		}
		h.wantCarried()
		h.want("upnp tcp 192.168.1.20:80 80!", "leases deny")
		if _, err := h.Approve(h.t.Context(), "nobody"); !errors.Is(err, ErrUnknown) {
			h.t.Error(err)
		}
		// The port's own verdict goes before that of its device.
		if _, err := h.Approve(h.t.Context(), macTwo); err != nil {
			h.t.Error(err)
		}
		if _, err := h.Deny(h.t.Context(), "lease-192.168.1.30-udp-3074"); err != nil {
			h.t.Error(err)
		}
		h.want("natpmp udp 192.168.1.30:3074 3074", "leases deny")
		h.want("natpmp udp 192.168.1.30:3075 3074", "203.0.113.5:3074")
		h.wantCarried("lease-192.168.1.30-udp-3075 udp/203.0.113.5:3074 192.168.1.30:3075")
	})
}

// An operator who is not to be asked any more has approved what waits.
func TestAskIsSwitchedOff(t *testing.T) {
	inHouse(t, &portmap.Spec{Ask: true}, func(h *house) {
		h.ask("upnp tcp 192.168.1.20:80 80!")
		h.ask("upnp tcp 192.168.1.30:81 81!")
		h.wantCarried()
		h.Configure(&portmap.Spec{Deny: rules(h.t, "192.168.1.30")})
		synctest.Wait()
		h.wantCarried("lease-192.168.1.20-tcp-80 tcp/203.0.113.5:80 192.168.1.20:80")
	})
}

// An approval comes when the operator's forward has the port: the lease gets another.
func TestApprovedTooLate(t *testing.T) {
	inHouse(t, &portmap.Spec{Ask: true}, func(h *house) {
		h.want("upnp tcp 192.168.1.20:80 80!", "203.0.113.5:80")
		h.replace(admin(h.t, "op", "80"))
		if _, err := h.Approve(h.t.Context(), "192.168.1.20"); err != nil {
			h.t.Error(err)
		}
		if m, ok := h.ByKey(request(h.t, "upnp tcp 192.168.1.20:80").Key); !ok || m.External != 81 || m.Asking {
			h.t.Errorf("%+v", m)
		}
	})
}

func TestDisabledByItsClient(t *testing.T) {
	inHouse(t, &portmap.Spec{Ask: true}, func(h *house) {
		r := request(h.t, "upnp tcp 192.168.1.20:80 80!")
		r.Disabled = true
		if got := h.Map(h.t.Context(), []portmap.Request{r})[0]; got.Err != nil || !got.Disabled || !got.Asking {
			h.t.Errorf("%+v", got)
		}
		if _, err := h.Approve(h.t.Context(), macOne); err != nil {
			h.t.Error(err)
		}
		h.wantCarried() // approved, and still disabled
		h.ask("upnp tcp 192.168.1.20:80 80!")
		h.wantCarried("lease-192.168.1.20-tcp-80 tcp/203.0.113.5:80 192.168.1.20:80")
	})
}

func TestPrintable(t *testing.T) {
	for in, want := range map[string]string{
		"Xbox": "Xbox", " a\x1b[31mb\x00 ": "a.[31mb.", "Télé \xff": "Télé .", "\u202eevil": ".evil", "": "",
	} {
		if got := printable(in); got != want {
			t.Errorf("%q is %q, want %q", in, got, want)
		}
	}
	long := printable(string(make([]byte, 1000)))
	if len(long) != maxText {
		t.Errorf("%d bytes", len(long))
	}
}

func TestIsPublic(t *testing.T) {
	for addr, want := range map[string]bool{"8.8.8.8": true, "100.63.255.255": true, "100.64.0.1": false, "192.168.1.1": false, "172.32.0.1": true, "240.0.0.1": false} {
		if got := isPublic(netip.MustParseAddr(addr)); got != want {
			t.Errorf("%s: %v", addr, got)
		}
	}
}

// One host with many addresses leaves something to the others.
func TestManyAddresses(t *testing.T) {
	inHouse(t, &portmap.Spec{MaxLeases: 10, MaxClient: 2}, func(h *house) {
		granted := 0
		for i := range 20 {
			if r := h.ask(fmt.Sprintf("pcp tcp [2001:db8:1::%x]:80", 0x1000+i)); r.Err == nil {
				granted++
			} else if !errors.Is(r.Err, portmap.ErrFull) {
				t.Error(r.Err)
			}
		}
		if granted != 5 {
			t.Errorf("%d leases of hosts that are not known", granted)
		}
		h.want("natpmp tcp 192.168.1.20:80", "203.0.113.5:80")
		if err := h.Unmap(h.t.Context(), netip.MustParseAddr("2001:db8:1::1000"), portmap.Key{Network: forward.TCP, Internal: netip.MustParseAddrPort("[2001:db8:1::1000]:80")}); err != nil {
			t.Error(err)
		}
		h.want("pcp tcp [2001:db8:1::9999]:80", "[2001:db8:1::9999]:80")
	})
}
