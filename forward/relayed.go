package forward

import (
	"slices"
	"time"
)

// What a UDP flow may idle when udp_idle says nothing: a question without an answer, and a conversation.
const (
	DefaultUDPUnanswered = 30 * time.Second
	DefaultUDPAnswered   = 180 * time.Second
)

// Draining reports whether t takes no new sessions while those that it has finish.
func (f *Forward) Draining(t Target) bool { return slices.Contains(f.Drain, t) }

// relayKey says which key of f the relay alone honours and why, or "".
func (f *Forward) relayKey() string {
	switch {
	case f.BandwidthPerSource > 0:
		return "bandwidth_per_source is shaped by the relay"
	case f.ConnectTimeout > 0:
		return "connect_timeout is kept by the relay"
	case f.IdleTimeout > 0:
		return "idle_timeout is kept by the relay"
	case f.UDPIdle > 0:
		return "udp_idle is kept by the relay"
	case f.Check.Kind != CheckNone:
		return "check needs the relay to pick among the targets that are well"
	case f.SlowStart > 0:
		return "slow_start needs the relay to pick the target"
	case len(f.Drain) > 0:
		return "drain needs the relay to pick the target"
	case len(f.Wake.MACs) > 0:
		return "wake needs the relay to hold the client's connection"
	case f.FastOpen:
		return "fast_open needs the relay to end the client's connection"
	}
	return ""
}

func (f *Forward) validateTimes(bad func(field, format string, args ...any)) {
	for _, one := range []struct {
		field     string
		value     time.Duration
		least     time.Duration
		most      time.Duration
		otherwise string
	}{
		{"connect_timeout", f.ConnectTimeout, 10 * time.Millisecond, time.Hour, "the default"},
		{"idle_timeout", f.IdleTimeout, 10 * time.Millisecond, MaxDuration, "never"},
		{"udp_idle", f.UDPIdle, 10 * time.Millisecond, MaxDuration, "30s until the target answers and 180s after that"},
		{"check_interval", f.Check.Interval, 10 * time.Millisecond, 24 * time.Hour, "5s"},
		{"slow_start", f.SlowStart, 10 * time.Millisecond, 24 * time.Hour, "none"},
		{"wake_timeout", f.Wake.Timeout, time.Second, time.Hour, "60s"},
	} {
		if one.value != 0 && (one.value < one.least || one.value > one.most) {
			bad(one.field, "%s is %s; it is %s to %s, or left out for %s", one.field,
				FormatDuration(one.value), FormatDuration(one.least), FormatDuration(one.most), one.otherwise)
		}
	}
	l := f.Listen
	if l.Networks == UDP {
		if f.ConnectTimeout != 0 {
			bad("connect_timeout", "listen is udp, and udp does not connect; leave it out, or say udp_idle")
		}
		if f.IdleTimeout != 0 {
			bad("idle_timeout", "idle_timeout is for tcp, and listen is udp; say udp_idle")
		}
	}
	if f.UDPIdle != 0 && l.Networks&UDP == 0 {
		bad("udp_idle", "udp_idle is for udp, and listen is %s; say idle_timeout, or write udp/ or tcp+udp/ in listen", l)
	}
}

// validateTargets looks at what is said about the targets as a whole: slow_start, drain and fast_open.
func (f *Forward) validateTargets(bad func(field, format string, args ...any)) {
	if f.SlowStart != 0 {
		switch {
		case len(f.To) < 2:
			bad("slow_start", "slow_start shares sessions among several targets, and to has one")
		case f.Balance != BalanceRoundRobin && f.Balance != BalanceLeast:
			bad("slow_start", "slow_start is for balance = \"round-robin\" and \"least\"; balance here is %q", f.Balance)
		}
	}
	for i, t := range f.Drain {
		if !slices.Contains(f.To, t) {
			bad("drain", "%s is no target of this forward; write it as it stands in to", t)
		} else if slices.Contains(f.Drain[:i], t) {
			bad("drain", "%s is named twice", t)
		}
	}
	if f.FastOpen {
		all := !slices.ContainsFunc(f.To, func(t Target) bool { return !t.IsUnix() })
		if f.Listen.Networks == UDP {
			bad("fast_open", "fast_open is for tcp, and listen is udp")
		} else if f.Listen.IsUnix() && all {
			bad("fast_open", "fast_open is for tcp, and unix sockets are on both sides")
		}
	}
}
