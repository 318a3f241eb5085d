package config

import (
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/fairlead-net/fairlead/forward"
)

// A Secret is text that is never printed: every verb of fmt, and a logger that is given it, has "***" for it. TOML and JSON
// have it in clear, for they are how it reaches the daemon and the store; so JSON of a Spec is for these two and no log.
type Secret string

// Format prints "***", or nothing for no secret.
func (s Secret) Format(w fmt.State, _ rune) { _, _ = io.WriteString(w, s.masked()) }

// LogValue is what a logger has for s.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.masked()) }

func (s Secret) masked() string {
	if s == "" {
		return ""
	}
	return forward.Secret
}

// relayField is field for the keys that the relay alone honours.
func (s *Spec) relayField(key string) any {
	switch key {
	case "connect_timeout":
		return &s.ConnectTimeout
	case "idle_timeout":
		return &s.IdleTimeout
	case "udp_idle":
		return &s.UDPIdle
	case "bandwidth_per_source":
		return &s.BandwidthPerSource
	case "check":
		return &s.Check
	case "check_interval":
		return &s.CheckInterval
	case "slow_start":
		return &s.SlowStart
	case "drain":
		return &s.Drain
	case "wake":
		return &s.Wake
	case "wake_timeout":
		return &s.WakeTimeout
	case "wake_password":
		return &s.WakePassword
	case "fast_open":
		return &s.FastOpen
	}
	return nil
}

// relayed reads into f what the relay alone honours.
func (s Spec) relayed(f *forward.Forward, check func(field string, err error)) {
	var err error
	f.Check, err = forward.ParseCheck(s.Check)
	check("check", err)
	for _, one := range []struct {
		key  string
		text string
		to   *time.Duration
	}{
		{"connect_timeout", s.ConnectTimeout, &f.ConnectTimeout},
		{"idle_timeout", s.IdleTimeout, &f.IdleTimeout},
		{"udp_idle", s.UDPIdle, &f.UDPIdle},
		{"check_interval", s.CheckInterval, &f.Check.Interval},
		{"slow_start", s.SlowStart, &f.SlowStart},
		{"wake_timeout", s.WakeTimeout, &f.Wake.Timeout},
	} {
		*one.to, err = forward.ParseDuration(one.text)
		check(one.key, err)
	}
	f.BandwidthPerSource, err = ParseBandwidth(s.BandwidthPerSource)
	check("bandwidth_per_source", err)
	f.Drain, err = parseList(s.Drain, "leave drain out when no target is to be drained", forward.ParseTarget)
	check("drain", err)
	f.Wake.MACs, err = parseList(s.Wake, "leave wake out for targets that do not sleep", forward.ParseMAC)
	check("wake", err)
	f.Wake.Password, err = forward.ParseWakePassword(string(s.WakePassword))
	check("wake_password", err)
}
