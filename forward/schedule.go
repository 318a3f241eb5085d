package forward

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// A Schedule is the hours of the week at which a forward is open, in the host's local time. The zero Schedule is always.
type Schedule struct {
	spans []span
	text  string
}

// A span is minutes of the week, Monday 00:00 being 0, the end not included. A span never wraps; one across the end of the
// week is stored as two.
type span struct{ from, to int }

const (
	minutesPerDay  = 24 * 60
	minutesPerWeek = 7 * minutesPerDay
)

var weekdays = []string{"mon", "tue", "wed", "thu", "fri", "sat", "sun"}

// ParseSchedule reads days and hours such as "mon-fri 08:00-18:00, sat 10:00-14:00". Days alone are whole days, hours alone
// are every day, and hours that end before they begin run into the next day ("fri 22:00-06:00").
func ParseSchedule(s string) (Schedule, error) {
	if strings.TrimSpace(s) == "" {
		return Schedule{}, errors.New("the schedule is empty; write it like \"mon-fri 08:00-18:00\", or leave when out")
	}
	out := Schedule{text: s}
	for item := range strings.SplitSeq(s, ",") {
		spans, err := parseSpans(strings.Fields(strings.ToLower(item)))
		if err != nil {
			return Schedule{}, fmt.Errorf("%q: %w; write it like \"mon-fri 08:00-18:00\"", strings.TrimSpace(item), err)
		}
		out.spans = append(out.spans, spans...)
	}
	return out, nil
}

func parseSpans(words []string) ([]span, error) {
	firstDay, lastDay := 0, 6
	from, to := 0, minutesPerDay
	if len(words) == 0 || len(words) > 2 {
		return nil, errors.New("expected days, hours, or days and hours")
	}
	hours := words[len(words)-1]
	var err error
	if strings.Contains(hours, ":") {
		if from, to, err = parseHours(hours); err != nil {
			return nil, err
		}
		words = words[:len(words)-1]
	} else if len(words) == 2 {
		return nil, fmt.Errorf("%q is not hours such as 08:00-18:00", hours)
	}
	if len(words) == 1 {
		if firstDay, lastDay, err = parseDays(words[0]); err != nil {
			return nil, err
		}
	}
	if to <= from {
		to += minutesPerDay
	}
	days := (lastDay-firstDay+7)%7 + 1
	var spans []span
	for i := range days {
		start := (firstDay + i) % 7 * minutesPerDay
		spans = append(spans, span{start + from, min(start+to, minutesPerWeek)})
		if start+to > minutesPerWeek {
			spans = append(spans, span{0, start + to - minutesPerWeek})
		}
	}
	return spans, nil
}

func parseDays(s string) (first, last int, err error) {
	a, b, isRange := strings.Cut(s, "-")
	if !isRange {
		b = a
	}
	if first = slices.Index(weekdays, a); first < 0 {
		return 0, 0, fmt.Errorf("%q is no day; days are mon tue wed thu fri sat sun", a)
	}
	if last = slices.Index(weekdays, b); last < 0 {
		return 0, 0, fmt.Errorf("%q is no day; days are mon tue wed thu fri sat sun", b)
	}
	return first, last, nil
}

func parseHours(s string) (from, to int, err error) {
	a, b, isRange := strings.Cut(s, "-")
	if !isRange {
		return 0, 0, fmt.Errorf("%q is not hours such as 08:00-18:00", s)
	}
	if from, err = parseClock(a); err != nil {
		return 0, 0, err
	}
	if to, err = parseClock(b); err != nil {
		return 0, 0, err
	}
	if from == to {
		return 0, 0, fmt.Errorf("%q begins when it ends", s)
	}
	if from == minutesPerDay {
		return 0, 0, fmt.Errorf("%q begins at 24:00; write 00:00 of the next day", s)
	}
	return from, to, nil
}

func parseClock(s string) (int, error) {
	if s == "24:00" {
		return minutesPerDay, nil
	}
	t, err := time.Parse("15:04", s)
	if err != nil {
		return 0, fmt.Errorf("%q is no time of day; write it like 08:00", s)
	}
	return t.Hour()*60 + t.Minute(), nil
}

// IsZero reports whether s is always open because no schedule was written.
func (s Schedule) IsZero() bool { return len(s.spans) == 0 }

// Equal reports whether s and t are open at the same hours.
func (s Schedule) Equal(t Schedule) bool { return slices.Equal(s.spans, t.spans) }

// String is s as it was written.
func (s Schedule) String() string { return s.text }

// Open reports whether s is open at t, in t's own time zone.
func (s Schedule) Open(t time.Time) bool {
	if s.IsZero() {
		return true
	}
	minute := (int(t.Weekday())+6)%7*minutesPerDay + t.Hour()*60 + t.Minute()
	return slices.ContainsFunc(s.spans, func(sp span) bool { return sp.from <= minute && minute < sp.to })
}

// Next is the first minute after t at which Open changes, or the zero time when it never does. It walks whole minutes of
// wall time, so that a change of daylight saving is taken as the clock on the wall takes it.
func (s Schedule) Next(t time.Time) time.Time {
	if s.IsZero() {
		return time.Time{}
	}
	open := s.Open(t)
	minute := t.Truncate(time.Minute)
	for range 2*minutesPerWeek + 120 { // an hour of the week that daylight saving skips comes a week later
		minute = minute.Add(time.Minute)
		if s.Open(minute) != open {
			return minute
		}
	}
	return time.Time{}
}
