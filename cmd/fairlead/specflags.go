package main

import (
	"errors"
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
	when, drain, wake, host   []string
	users, permit, deny       []string
	allow                     []string
	direct, through           []string
	expires                   string
}

// register has cmd take the flags. node is how a node is named there.
func (s *specFlags) register(cmd *cobra.Command, node string) {
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
	flags.StringVar(&s.spec.BandwidthPerSource, "bandwidth-per-source", "", "the same for all sessions of one client address")
	flags.StringVar(&s.spec.ConnectTimeout, "connect-timeout", "", "how long a target may take to answer, such as 3s")
	flags.StringVar(&s.spec.IdleTimeout, "idle-timeout", "", "end a TCP session without traffic after so long, such as 10m (default never)")
	flags.StringVar(&s.spec.UDPIdle, "udp-idle", "", "forget a UDP flow without traffic after so long (default 30s until the target answers, then 180s)")
	flags.StringVar(&s.spec.Source, "source", "", "the address that the target sees: auto, keep (the client's) or rewrite (this host's) (default auto)")
	flags.StringVar(&s.spec.SendProxy, "send-proxy", "", "tell the target who the client is by the PROXY protocol: v1 or v2")
	flags.StringSliceVar(&s.acceptProxy, "accept-proxy", nil, "believe the PROXY protocol header of these clients")
	flags.StringVar(&s.spec.Balance, "balance", "", "how one of several targets is picked: failover, round-robin, least or source (default failover)")
	flags.StringVar(&s.spec.Check, "check", "", "ask targets whether they are well: connect, or a URL such as http://app.example/health")
	flags.StringVar(&s.spec.CheckInterval, "check-interval", "", "how often to ask them (default 5s)")
	flags.StringVar(&s.spec.SlowStart, "slow-start", "", "give a target that came back its share gradually over this time")
	flags.StringSliceVar(&s.drain, "drain", nil, "give these targets no new sessions; those that are open finish")
	flags.StringSliceVar(&s.wake, "wake", nil, "wake a target that sleeps, by its hardware address such as aa:bb:cc:dd:ee:ff")
	flags.StringVar(&s.spec.WakeTimeout, "wake-timeout", "", "how long it may take to come up (default 60s)")
	flags.StringVar((*string)(&s.spec.WakePassword), "wake-password", "", "its SecureOn password; other users of this host can see it in the list of processes")
	flags.BoolVar(&s.spec.FastOpen, "fast-open", false, "TCP Fast Open, from clients and towards targets")
	flags.StringVar(&s.spec.At, "at", "", "the node that listens, "+node+" (default host, this machine)")
	flags.StringVar(&s.spec.Via, "via", "", "the node that dials, "+node+" (default host, this machine)")
	flags.StringSliceVar(&s.host, "host", nil, "share the port by name: serve who calls these by HTTP or TLS, such as blog.example.com, *.example.com or * for the rest")
	flags.StringVar(&s.spec.TLS, "tls", "", "with --host: pass TLS to the target, or acme to end it here with a certificate that is had by itself (default pass)")
	flags.StringVar(&s.spec.Cert, "cert", "", "with --host: end TLS here with this certificate, a file in PEM")
	flags.StringVar(&s.spec.Key, "key", "", "with --cert: its key")
	flags.StringVar(&s.spec.Auth, "auth", "", "with --host: who may ask: basic, for the users that the daemon's file declares, or oidc, for its provider of logins")
	flags.StringSliceVar(&s.allow, "allow", nil, "with --auth oidc: who may, such as anna@example.com or @example.com (default whoever the provider logs in)")
	flags.StringVar(&s.spec.AwayPage, "away-page", "", "with --host: a file of HTML that is shown while no target answers")
	flags.BoolVar(&s.spec.RedirectHTTPS, "redirect-https", false, "with --host: send http:// to https://")
	flags.StringSliceVar(&s.users, "users", nil, "of a proxy: who may use it, declared in the daemon's file (default all of them)")
	flags.StringSliceVar(&s.permit, "permit", nil, "of a proxy: where clients may go, such as *.example.com, 10.0.0.0/8 or 192.0.2.7:443")
	flags.StringSliceVar(&s.deny, "deny", nil, "of a proxy: where clients may not go")
	flags.BoolVar(&s.spec.PAC, "pac", false, "of a proxy: serve browsers a PAC file, at /proxy.pac of its port")
	flags.StringSliceVar(&s.direct, "direct", nil, "with --pac: what browsers reach without the proxy")
	flags.StringSliceVar(&s.through, "through", nil, "with --pac: what goes through the proxy (default all that is not --direct)")
	flags.StringVar(&s.spec.Helper, "helper", "", "follow the further connections that a protocol negotiates: ftp, sip, tftp, irc, pptp, h323 or amanda")
	flags.StringVar(&s.spec.PassivePorts, "passive-ports", "", "with --helper ftp: the ports that the relay offers data connections at, such as 50000-50100")
	flags.StringVar((*string)(&s.spec.Publish), "publish", "", "ask the gateways upstream for a mapping: for the same port, or =PORT, or =random")
	flags.Lookup("publish").NoOptDefVal = "true"
	fixed(cmd, "helper", "ftp", "sip", "tftp", "irc", "pptp", "h323", "amanda")
	fixed(cmd, "check", "connect", "http://")
	fixed(cmd, "carry", "auto", "kernel", "relay")
	fixed(cmd, "source", "auto", "keep", "rewrite")
	fixed(cmd, "tls", "pass", "acme")
	fixed(cmd, "auth", "basic", "oidc")
	fixed(cmd, "send-proxy", "v1", "v2")
	fixed(cmd, "balance", "failover", "round-robin", "least", "source")
}

// forward makes the forward that was typed. What cannot be is a usage error that says what would be right.
func (s *specFlags) forward(name string, origin forward.Origin, listen string, to []string, now time.Time) (*forward.Forward, config.Spec, error) {
	spec := s.spec
	spec.Listen, spec.To = listen, to
	spec.From, spec.Except, spec.AcceptProxy, spec.When = s.from, s.except, s.acceptProxy, s.when
	spec.Drain, spec.Wake, spec.Host, spec.Allow = s.drain, s.wake, s.host, s.allow
	spec.Users, spec.Permit, spec.Deny, spec.Direct, spec.Through = s.users, s.permit, s.deny, s.direct, s.through
	var err error
	if spec.Expires, err = resolveExpiry(s.expires, now); err != nil {
		return nil, spec, err
	}
	f, err := spec.Forward(name, origin)
	if err != nil {
		return nil, spec, &usageError{err: err, hint: hintFor(err)}
	}
	return f, spec, nil
}

// hintFor says what would have been right; the arguments have their own names here.
func hintFor(err error) string {
	const args = "LISTEN is [tcp/|udp/|tcp+udp/][ADDRESS:]PORTS or unix:/PATH; TO is HOST[:PORT], :PORT, unix:/PATH, or socks, http or proxy"
	var field *forward.FieldError
	if errors.As(err, &field) && field.Field != "listen" && field.Field != "to" {
		if hint := config.Hint(err); hint != "" {
			return hint
		}
	}
	return args
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
