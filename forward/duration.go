package forward

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// MaxDuration is the longest time that a key of a forward takes; anything longer is a slip of the pen.
const MaxDuration = 365 * 24 * time.Hour

type timeUnit struct {
	name string
	time.Duration
}

// timeUnits are the units of a time, the longest first, which is their order within one as well.
func timeUnits() []timeUnit {
	return []timeUnit{{"d", 24 * time.Hour}, {"h", time.Hour}, {"m", time.Minute}, {"s", time.Second}, {"ms", time.Millisecond}}
}

// ParseDuration reads a time such as "500ms", "30s", "5m", "1h30m" or "2d": whole numbers, each with its unit, the longest
// first, and in all more than nothing and at most MaxDuration. "" is 0.
func ParseDuration(s string) (time.Duration, error) {
	units, rest := timeUnits(), s
	var total time.Duration
	for rest != "" {
		end := digits(rest)
		number, after := rest[:end], rest[end:]
		next := digitAt(after)
		name := after[:next]
		rest = after[next:]
		switch {
		case strings.HasPrefix(s, "-"):
			return 0, fmt.Errorf("%q is negative", s)
		case strings.ContainsAny(s, ".,"):
			return 0, fmt.Errorf("%q is no whole number; write \"90m\" for an hour and a half", s)
		case number == "":
			return 0, fmt.Errorf("%q does not begin with a number; write a time like \"30s\"", s)
		case name == "" && number == s:
			return 0, fmt.Errorf("%q has no unit; write %q for seconds or %q for minutes", s, s+"s", s+"m")
		case name == "":
			return 0, fmt.Errorf("%q ends where a unit should be; the units are d, h, m, s and ms", s)
		}
		for len(units) > 0 && units[0].name != name {
			units = units[1:]
		}
		if len(units) == 0 {
			return 0, unitError(s, name)
		}
		n, err := strconv.ParseInt(number, 10, 64)
		if err != nil || n > int64(MaxDuration/units[0].Duration) {
			return 0, fmt.Errorf("%q is more than a year", s)
		}
		total += time.Duration(n) * units[0].Duration
		units = units[1:]
	}
	switch {
	case s != "" && total == 0:
		return 0, fmt.Errorf("%q is no time at all", s)
	case total > MaxDuration:
		return 0, fmt.Errorf("%q is more than a year", s)
	}
	return total, nil
}

// unitError says why the unit called name cannot stand where it stands in s.
func unitError(s, name string) error {
	for _, u := range timeUnits() {
		if u.name == name {
			return fmt.Errorf("%q has its units in no order; write the longest first, and each once, such as \"1h30m\"", s)
		}
	}
	return fmt.Errorf("%q is no unit of time; the units are d, h, m, s and ms", name)
}

// digits is how many digits s begins with.
func digits(s string) int { return len(s) - len(strings.TrimLeft(s, "0123456789")) }

// digitAt is where the first digit of s stands, or its length.
func digitAt(s string) int {
	if at := strings.IndexAny(s, "0123456789"); at >= 0 {
		return at
	}
	return len(s)
}

// FormatDuration writes d with the one unit that takes the fewest digits, the way ParseDuration reads it; less than a
// millisecond is dropped. 0 is "".
func FormatDuration(d time.Duration) string {
	if d == 0 {
		return ""
	}
	for _, u := range timeUnits() {
		if d%u.Duration == 0 {
			return strconv.FormatInt(int64(d/u.Duration), 10) + u.name
		}
	}
	return strconv.FormatInt(d.Milliseconds(), 10) + "ms"
}
