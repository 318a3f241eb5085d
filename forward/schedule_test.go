package forward_test

import (
	"strings"
	"testing"
	"time"
	_ "time/tzdata" // the zones below, wherever the test runs

	"github.com/fairlead-net/fairlead/forward"
)

// at is a time of the week that begins on Monday, 2026-11-23.
func at(t *testing.T, s string) time.Time {
	t.Helper()
	day, clock, _ := strings.Cut(s, " ")
	n := strings.Index("mon tue wed thu fri sat sun", day) / 4
	hour, err := time.Parse("15:04", clock)
	if err != nil {
		t.Fatal(err)
	}
	return time.Date(2026, 11, 23+n, hour.Hour(), hour.Minute(), 0, 0, time.UTC)
}

func schedule(t testing.TB, s string) forward.Schedule {
	t.Helper()
	sched, err := forward.ParseSchedule(s)
	if err != nil {
		t.Fatal(err)
	}
	return sched
}

func TestScheduleOpen(t *testing.T) {
	for _, test := range []struct{ in, open, closed string }{
		{"mon-fri 08:00-18:00", "mon 08:00, fri 17:59", "mon 07:59, mon 18:00, sat 12:00"},
		{"sat", "sat 00:00, sat 23:59", "fri 23:59, sun 00:00"},
		{"22:00-06:00", "mon 22:00, tue 05:59, mon 00:00", "mon 06:00, sun 21:59"},
		{"fri 22:00-06:00", "fri 22:00, sat 05:59", "fri 05:00, sat 06:00, sat 22:00"},
		{"sun 22:00-06:00", "sun 23:00, mon 05:59", "mon 06:00, sun 05:00"},
		{"sat-mon", "sat 00:00, sun 12:00, mon 23:59", "tue 00:00, fri 23:59"},
		{"MON 8:00-9:00,  wed", "mon 08:30, wed 12:00", "tue 08:30"},
		{"mon 20:00-24:00", "mon 23:59", "tue 00:00, mon 19:59"},
		{"mon-sun", "mon 00:00, sun 23:59", ""},
	} {
		sched := schedule(t, test.in)
		for moment := range strings.SplitSeq(test.open, ", ") {
			if !sched.Open(at(t, moment)) {
				t.Errorf("%q is closed on %s", test.in, moment)
			}
		}
		for moment := range strings.SplitSeq(test.closed, ", ") {
			if moment != "" && sched.Open(at(t, moment)) {
				t.Errorf("%q is open on %s", test.in, moment)
			}
		}
		if again := schedule(t, sched.String()); !again.Equal(sched) {
			t.Errorf("%q is not what it says it is", test.in)
		}
	}
	for _, bad := range []string{
		"", " ", ",", "mon,", "monday", "mon-", "-mon", "mon 08:00", "08:00", "08:00-08:00", "24:00-06:00", "08:00-25:00", "08:60-09:00", "mon tue", "mon 08:00-09:00 x",
		"08:00-09:00 mon", "mon fri-sat 08:00-09:00", "00:00-24:01",
	} {
		if sched, err := forward.ParseSchedule(bad); err == nil {
			t.Errorf("%q is %+v", bad, sched)
		}
	}
}

func TestScheduleNext(t *testing.T) {
	for _, test := range []struct{ in, now, next string }{
		{"mon-fri 08:00-18:00", "mon 07:00", "mon 08:00"},
		{"mon-fri 08:00-18:00", "mon 08:00", "mon 18:00"},
		{"mon 08:00-09:00, mon 09:00-10:00", "mon 08:30", "mon 10:00"},
		{"sat", "mon 12:00", "sat 00:00"},
		{"fri 22:00-06:00", "fri 23:00", "sat 06:00"},
	} {
		now := at(t, test.now).Add(17*time.Second + 5)
		if got := schedule(t, test.in).Next(now); !got.Equal(at(t, test.next)) {
			t.Errorf("%q on %s: %v, want %s", test.in, test.now, got, test.next)
		}
	}
	if next := schedule(t, "mon-sun").Next(at(t, "mon 00:00")); !next.IsZero() {
		t.Errorf("always open, and yet it changes at %v", next)
	}
	if next := (forward.Schedule{}).Next(at(t, "mon 00:00")); !next.IsZero() || !(forward.Schedule{}).Open(next) {
		t.Errorf("the zero schedule changes at %v", next)
	}
	// The span ends with the week and begins again: nothing changes at midnight.
	if next := schedule(t, "sun 12:00-24:00, mon 00:00-12:00").Next(at(t, "sun 13:00")); !next.Equal(at(t, "mon 12:00").AddDate(0, 0, 7)) {
		t.Errorf("across the week: %v", next)
	}
}

// TestScheduleDaylightSaving: in Berlin the hour from 02:00 is skipped on 2027-03-28 and comes twice on 2027-10-31.
func TestScheduleDaylightSaving(t *testing.T) {
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	night := schedule(t, "sun 02:00-03:00")
	if next := night.Next(time.Date(2027, 3, 21, 3, 0, 0, 0, berlin)); !next.Equal(time.Date(2027, 4, 4, 2, 0, 0, 0, berlin)) {
		t.Errorf("after the last night before the skipped hour comes %v", next)
	}
	opens := night.Next(time.Date(2027, 10, 31, 0, 0, 0, 0, berlin))
	if closes := night.Next(opens); closes.Sub(opens) != 2*time.Hour || closes.Hour() != 3 {
		t.Errorf("the night with two such hours is from %v to %v", opens, closes)
	}
}

func FuzzParseSchedule(f *testing.F) {
	for _, s := range []string{"mon-fri 08:00-18:00", "sat", "22:00-06:00", "sun 22:00-06:00, wed", "00:00-24:00", "tue-mon 23:59-00:01"} {
		f.Add(s, int64(1_800_000_000))
	}
	f.Fuzz(func(t *testing.T, s string, unix int64) {
		sched, err := forward.ParseSchedule(s)
		if err != nil || len(s) > 200 {
			return
		}
		again, err := forward.ParseSchedule(sched.String())
		if err != nil || !again.Equal(sched) || sched.IsZero() {
			t.Fatalf("%q is not what it says it is: %v", s, err)
		}
		now := time.Unix(unix%4_000_000_000, 0).UTC()
		next, open := sched.Next(now), sched.Open(now)
		if next.IsZero() {
			return
		}
		if !next.After(now) || sched.Open(next) == open {
			t.Fatalf("%q at %v: Next is %v", s, now, next)
		}
		for minute := now; minute.Before(next); minute = minute.Add(time.Minute) {
			if sched.Open(minute) != open {
				t.Fatalf("%q at %v: Next is %v, but it changes before %v", s, now, next, minute)
			}
		}
	})
}
