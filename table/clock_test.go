package table

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/fairlead-net/fairlead/config"
	"github.com/fairlead-net/fairlead/forward"
)

// lease is a forward that ends after d.
func lease(t testing.TB, name string, origin forward.Origin, listen string, d time.Duration) *forward.Forward {
	return spec(t, name, origin, config.Spec{Listen: listen, To: config.Strings{"app:1"}, Expires: time.Now().Add(d).Format(time.RFC3339Nano)})
}

func TestExpiry(t *testing.T) {
	inHouse(t, func(h *house) {
		h.start()
		h.replace(lease(h.t, "file", forward.OriginFile, "1", time.Hour), viaRelay(h.t, "stays", forward.OriginFile, "2"))
		h.put(lease(h.t, "api", forward.OriginAPI, "3", time.Hour))
		h.put(lease(h.t, "cli", forward.OriginCLI, "4", 90*time.Minute))
		elapse(time.Hour - time.Millisecond)
		h.wantCarried("", "api cli file stays")
		elapse(2 * time.Millisecond)
		h.wantCarried("", "cli stays")
		h.wantLook("cli cli up, file file off (expired), stays file up")
		if stored, err := h.store.Get(bucketForwards, "api"); stored != nil || err != nil {
			h.t.Errorf("an expired forward is still stored: %s, %v", stored, err)
		}
		h.put(lease(h.t, "cli", forward.OriginCLI, "4", 2*time.Hour)) // renewed
		elapse(time.Hour)
		h.wantCarried("", "cli stays")
		elapse(time.Hour + time.Second)
		h.wantLook("file file off (expired), stays file up")
		// It cannot be put into the past either.
		var field *forward.FieldError
		if _, err := h.Put(h.t.Context(), lease(h.t, "late", forward.OriginAPI, "5", -time.Hour)); !errors.As(err, &field) || field.Field != "expires" {
			h.t.Errorf("a forward that is over before it begins: %v", err)
		}
		h.wantLook("file file off (expired), stays file up")
	})
}

func TestSchedule(t *testing.T) {
	inHouse(t, func(h *house) {
		h.start()
		elapse(17*time.Minute + 13*time.Second) // not at the full hour
		opens := time.Now().Add(2 * time.Hour).Truncate(time.Hour)
		when := fmt.Sprintf("%s-%s", opens.Format("15:04"), opens.Add(time.Hour).Format("15:04"))
		h.replace(spec(h.t, "day", forward.OriginFile, config.Spec{Listen: "1", To: config.Strings{"app:1"}, When: config.Strings{when}}))
		closed := "day file waiting (closed by its schedule until " + opens.Format("Mon 15:04") + ")"
		h.wantLook(closed)
		h.wantCarried("", "")
		elapse(time.Until(opens) - time.Millisecond)
		h.wantLook(closed)
		elapse(2 * time.Millisecond)
		h.wantLook("day file up")
		h.wantCarried("", "day")
		day := h.relay.get("day")
		elapse(time.Hour)
		h.wantLook(strings.Replace(closed, opens.Format("Mon 15:04"), opens.Add(24*time.Hour).Format("Mon 15:04"), 1))
		h.wantCarried("", "")
		applies := h.relay.count()
		elapse(23*time.Hour - time.Minute)
		if got := h.relay.count() - applies; got > 24*60 {
			h.t.Errorf("the relay was called %d times in a day", got)
		}
		elapse(time.Minute)
		if h.relay.get("day") != day {
			h.t.Error("a schedule that opens again made a new pointer")
		}
	})
}

func TestShut(t *testing.T) {
	now := time.Date(2026, 3, 4, 12, 0, 30, 0, time.UTC) // a Wednesday
	at := func(s string) time.Time {
		t, _ := time.Parse(time.DateTime, "2026-03-04 "+s)
		return t
	}
	for _, test := range []struct {
		spec config.Spec
		want shut
		next time.Time
	}{
		{config.Spec{}, open, time.Time{}},
		{config.Spec{Enabled: new(bool), Expires: "2026-03-04T13:00:00Z"}, disabled, time.Time{}},
		{config.Spec{Expires: "2026-03-04T13:00:00Z"}, open, at("13:00:00")},
		{config.Spec{Expires: "2026-03-04T12:00:30Z"}, expired, time.Time{}},
		{config.Spec{When: config.Strings{"wed"}}, open, at("12:01:00")},
		{config.Spec{When: config.Strings{"thu"}}, closed, at("12:01:00")},
		{config.Spec{When: config.Strings{"thu"}, Expires: "2026-03-04T12:00:40Z"}, closed, at("12:00:40")},
		{config.Spec{When: config.Strings{"wed"}, Expires: "2026-03-04T12:00:00Z"}, expired, time.Time{}},
	} {
		test.spec.Listen, test.spec.To = "80", config.Strings{"app"}
		f := spec(t, "x", forward.OriginFile, test.spec)
		if got, next := shutOf(f, now), nextShut(f, now); got != test.want || !next.Equal(test.next) {
			t.Errorf("%+v: %v until %v, want %v until %v", test.spec, got, next, test.want, test.next)
		}
	}
}

// TestWallClockJump moves the clock without the timers: what a suspended laptop or a first answer of NTP does.
func TestWallClockJump(t *testing.T) {
	inHouse(t, func(h *house) {
		f := lease(h.t, "file", forward.OriginFile, "1", 100*time.Hour)
		h.replace(f)
		h.start()
		if h.due(time.Now()) {
			h.t.Error("due with nothing to do")
		}
		if !h.due(f.Expires) {
			h.t.Error("not due after a jump over the end")
		}
		elapse(100*time.Hour + time.Millisecond)
		h.wantLook("file file off (expired)")
		if !h.due(f.Expires.Add(-time.Hour)) {
			h.t.Error("not due after a jump back over the end")
		}
	})
}
