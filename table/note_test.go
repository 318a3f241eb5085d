package table

import (
	"strings"
	"testing"

	"github.com/fairlead-net/fairlead/forward"
)

// TestCarried wants what carriers have, with the carrier, and not what is off; what did not change is the same pointer.
func TestCarried(t *testing.T) {
	inHouse(t, func(h *house) {
		h.note = func(name string) string { return "a note on " + name }
		h.start()
		off := viaKernel(h.t, "off", forward.OriginAPI, "82")
		off.Disabled = true
		h.put(viaKernel(h.t, "web", forward.OriginAPI, "80"))
		h.put(viaRelay(h.t, "app", forward.OriginAPI, "81"))
		h.put(off)
		list, facts := h.Carried()
		var got []string
		for _, f := range list {
			got = append(got, f.Name+" "+f.Carry.String())
		}
		if s := strings.Join(got, ", "); s != "web kernel, app relay" || len(facts.Addrs) == 0 {
			h.t.Errorf("carried: %s, by %+v", s, facts)
		}
		h.put(viaRelay(h.t, "more", forward.OriginAPI, "83"))
		if again, _ := h.Carried(); len(again) != 3 || again[0] != list[0] || again[1] != list[1] {
			h.t.Errorf("carried, with one more: %v", again)
		}
		for _, s := range h.Snapshot() {
			if noted := strings.HasPrefix(s.Detail, "a note on "+s.Forward.Name); noted != (s.State == forward.StateUp) {
				h.t.Errorf("%s is %s: %q", s.Forward.Name, s.State, s.Detail)
			}
		}
	})
}
