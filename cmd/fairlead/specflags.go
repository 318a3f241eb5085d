package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/fairlead-net/fairlead/config"
	"github.com/fairlead-net/fairlead/forward"
)

// specFlags are the flags that say the keys of a forward; `forward` and `add` share them.
type specFlags struct {
	spec                      config.Spec
	from, except, acceptProxy []string
	when                      []string
	expires                   string
}

func (s *specFlags) register(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.SortFlags = false
	flags.StringSliceVar(&s.from, "from", nil, "serve only these clients: addresses or networks such as 198.51.100.0/24")
	flags.StringSliceVar(&s.except, "except", nil, "take these clients out of --from again")
	flags.StringVar(&s.spec.Interface, "interface", "", "take only what comes in by this interface")
	flags.StringVar(&s.spec.Carry, "carry", "", "what moves the bytes: auto, kernel or relay (default auto)")
	flags.StringVar(&s.expires, "expires", "", "when it ends: after a time such as 90m or 2h, or at one such as 2027-01-31T18:00:00Z")
	flags.StringArrayVar(&s.when, "when", nil, `open only at these hours, such as "mon-fri 08:00-18:00"`)
	flags.IntVar(&s.spec.MaxConnections, "max-connections", 0, "sessions open at once; 0 is no limit")
	flags.IntVar(&s.spec.MaxPerSource, "max-per-source", 0, "sessions open at once from one client address; 0 is no limit")
	flags.StringVar(&s.spec.Bandwidth, "bandwidth", "", "bytes or bits a second, each way, such as 10Mbit or 1.5MB")
	flags.StringVar(&s.spec.Source, "source", "", "the address that the target sees: auto, keep (the client's) or rewrite (this host's) (default auto)")
	flags.StringVar(&s.spec.SendProxy, "send-proxy", "", "tell the target who the client is by the PROXY protocol: v1 or v2")
	flags.StringSliceVar(&s.acceptProxy, "accept-proxy", nil, "believe the PROXY protocol header of these clients")
	flags.StringVar(&s.spec.Balance, "balance", "", "how one of several targets is picked: failover, round-robin, least or source (default failover)")
	fixed(cmd, "carry", "auto", "kernel", "relay")
	fixed(cmd, "source", "auto", "keep", "rewrite")
	fixed(cmd, "send-proxy", "v1", "v2")
	fixed(cmd, "balance", "failover", "round-robin", "least", "source")
}

// forward makes the forward that was typed. What cannot be is a usage error that says what would be right.
func (s *specFlags) forward(name string, origin forward.Origin, listen string, to []string, now time.Time) (*forward.Forward, config.Spec, error) {
	spec := s.spec
	spec.Listen, spec.To = listen, to
	spec.From, spec.Except, spec.AcceptProxy, spec.When = s.from, s.except, s.acceptProxy, s.when
	var err error
	if spec.Expires, err = resolveExpiry(s.expires, now); err != nil {
		return nil, spec, err
	}
	f, err := spec.Forward(name, origin)
	if err != nil {
		return nil, spec, &usageError{err: err, hint: "LISTEN is [tcp/|udp/|tcp+udp/][ADDRESS:]PORTS or unix:/PATH; TO is HOST[:PORT], :PORT or unix:/PATH"}
	}
	return f, spec, nil
}

// resolveExpiry makes a point in time of what was typed: a duration counts from now.
func resolveExpiry(s string, now time.Time) (string, error) {
	if s == "" {
		return "", nil
	}
	at, err := time.Parse(time.RFC3339, s)
	if err != nil {
		d, err := time.ParseDuration(s)
		if err != nil {
			return "", usagef("write it like 90m, 2h or 2027-01-31T18:00:00Z", "--expires: %q is neither a duration nor a time", s)
		}
		at = now.Add(d)
	}
	if !at.After(now) {
		return "", usagef("write it like 90m, 2h or 2027-01-31T18:00:00Z", "--expires: %q has passed already", s)
	}
	return at.UTC().Truncate(time.Second).Format(time.RFC3339), nil
}

// arrow is how a forward is written in one line: "tcp/8080 -> 127.0.0.1:80".
func arrow(listen string, to []string) string {
	s := listen + " -> "
	for i, t := range to {
		if i > 0 {
			s += ", "
		}
		s += t
	}
	return s
}

func carriedBy(carried, why string) string {
	if carried == "" {
		return why
	}
	return fmt.Sprintf("carried by %s: %s", carried, why)
}
