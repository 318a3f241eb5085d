package grant

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/fairlead-net/fairlead/portmap"
	"github.com/fairlead-net/fairlead/store"
)

// said is verdicts as text.
func said(list []Verdict) string {
	var out []string
	for _, v := range list {
		verdict := "denied"
		if v.Approved {
			verdict = "approved"
		}
		port := ""
		if v.Network != 0 {
			port = fmt.Sprintf("/%s/%d", v.Network, v.Port)
		}
		out = append(out, v.Device+port+" "+verdict)
	}
	return strings.Join(out, ", ")
}

// TestVerdicts lists what was decided, over a restart, and has it forgotten, by every name that it has.
func TestVerdicts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := store.Memory()
		h := newHouse(t, s, &portmap.Spec{Ask: true}).start()
		h.ask("natpmp udp 192.168.1.20:3074")
		decide := func(do func(string) error, which ...string) {
			t.Helper()
			for _, one := range which {
				if err := do(one); err != nil {
					t.Error(err)
				}
			}
		}
		approve := func(which string) error { _, err := h.Approve(t.Context(), which); return err }
		deny := func(which string) error { _, err := h.Deny(t.Context(), which); return err }
		decide(approve, "lease-192.168.1.20-udp-3074", "02:00:5E:10:00:01", "192.168.77.7")
		decide(deny, "192.168.1.30", "2001:db8:77::1")
		mac20, _ := h.lookUp(one)
		mac30, _ := h.lookUp(two)
		h.stop()
		h = newHouse(t, s, &portmap.Spec{Ask: true}).start()
		defer h.stop()
		for _, want := range []string{mac20 + "/udp/3074 approved", "02:00:5e:10:00:01 approved", "192.168.77.7 approved", mac30 + " denied", "2001:db8:77::1 denied"} {
			if got := said(h.Verdicts()); !strings.Contains(got, want) || len(h.Verdicts()) != 5 {
				t.Errorf("%s; want %s", got, want)
			}
		}
		for which, want := range map[string]bool{"192.168.77.7": false, "192.168.1.20": true, "192.168.1.30": true, "02:00:5e:10:00:99": true} {
			if got := h.Known(t.Context(), which); got != want {
				t.Errorf("%s is known: %v", which, got)
			}
		}
		for _, c := range []struct{ which, gone string }{
			{"192.168.1.20/udp/3075", ""}, {"192.168.1.20/sctp/3074", ""}, {"nobody", ""}, {"", ""}, {"192.168.1.99", ""},
			{"192.168.1.20/udp/3074", mac20 + "/udp/3074 approved"}, {"lease-192.168.1.20-udp-3074", ""},
			{"192.168.1.30", mac30 + " denied"}, {"2001:db8:77:0::1", "2001:db8:77::1 denied"}, {"02-00-5E-10-00-01", "02:00:5e:10:00:01 approved"},
			{"192.168.77.7", "192.168.77.7 approved"},
		} {
			gone, err := h.Forget(t.Context(), c.which)
			if said(gone) != c.gone || (err == nil) != (c.gone != "") || err != nil && !errors.Is(err, ErrUnknown) {
				t.Errorf("%s: %q, %v", c.which, said(gone), err)
			}
		}
		if l, ok := h.ByKey(request(t, "natpmp udp 192.168.1.20:3074").Key); !ok || l.Asking {
			t.Errorf("the lease that there was: %+v", l)
		}
		if r := h.ask("natpmp udp 192.168.1.20:3080"); !r.Asking {
			t.Errorf("nobody was asked: %+v", r)
		}
		decide(deny, "lease-192.168.1.20-udp-3080", "192.168.1.20")
		if gone, err := h.Forget(t.Context(), mac20); err != nil || said(gone) != mac20+" denied" {
			t.Errorf("%q, %v", said(gone), err)
		}
		h.stop()
		h = newHouse(t, s, &portmap.Spec{}).start()
		if list := h.Verdicts(); len(list) != 0 {
			t.Errorf("%s are remembered again", said(list))
		}
	})
}
