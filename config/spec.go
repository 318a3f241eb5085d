package config

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/fairlead-net/fairlead/forward"
)

// Strings is a list that may be written as one string when it has one item.
type Strings []string

// MarshalJSON writes one item as a string and several as a list.
func (s Strings) MarshalJSON() ([]byte, error) {
	if len(s) == 1 {
		return json.Marshal(s[0])
	}
	return json.Marshal([]string(s))
}

// UnmarshalJSON reads a string or a list of strings.
func (s *Strings) UnmarshalJSON(data []byte) error {
	if len(data) > 0 && data[0] == '"' {
		*s = Strings{""}
		return json.Unmarshal(data, &(*s)[0])
	}
	return json.Unmarshal(data, (*[]string)(s))
}

// A Spec is a forward as people write it: the keys of a [forward.NAME] table, the body of an API request, the flags of
// `fairlead add`. It is also how the store keeps what was added. A key left out is the zero value.
type Spec struct {
	Listen  string  `toml:"listen,omitempty" json:"listen,omitempty"`
	To      Strings `toml:"to,omitempty" json:"to,omitempty"`
	At      string  `toml:"at,omitempty" json:"at,omitempty"`
	Via     string  `toml:"via,omitempty" json:"via,omitempty"`
	Balance string  `toml:"balance,omitempty" json:"balance,omitempty"`

	From      Strings `toml:"from,omitempty" json:"from,omitempty"`
	Except    Strings `toml:"except,omitempty" json:"except,omitempty"`
	Interface string  `toml:"interface,omitempty" json:"interface,omitempty"`

	Carry          string  `toml:"carry,omitempty" json:"carry,omitempty"`
	Enabled        *bool   `toml:"enabled,omitempty" json:"enabled,omitempty"` // nil is true
	Expires        string  `toml:"expires,omitempty" json:"expires,omitempty"` // RFC 3339; in TOML a date and time without quotes as well
	When           Strings `toml:"when,omitempty" json:"when,omitempty"`
	MaxConnections int     `toml:"max_connections,omitempty" json:"max_connections,omitempty"`
	MaxPerSource   int     `toml:"max_per_source,omitempty" json:"max_per_source,omitempty"`
	Bandwidth      string  `toml:"bandwidth,omitempty" json:"bandwidth,omitempty"` // see ParseBandwidth
	Source         string  `toml:"source,omitempty" json:"source,omitempty"`
	SendProxy      string  `toml:"send_proxy,omitempty" json:"send_proxy,omitempty"` // "v1" or "v2"
	AcceptProxy    Strings `toml:"accept_proxy,omitempty" json:"accept_proxy,omitempty"`

	ConnectTimeout     string  `toml:"connect_timeout,omitempty" json:"connect_timeout,omitempty"` // this and other times: see forward.ParseDuration
	IdleTimeout        string  `toml:"idle_timeout,omitempty" json:"idle_timeout,omitempty"`
	UDPIdle            string  `toml:"udp_idle,omitempty" json:"udp_idle,omitempty"`
	BandwidthPerSource string  `toml:"bandwidth_per_source,omitempty" json:"bandwidth_per_source,omitempty"` // see ParseBandwidth
	Check              string  `toml:"check,omitempty" json:"check,omitempty"`                               // see forward.ParseCheck
	CheckInterval      string  `toml:"check_interval,omitempty" json:"check_interval,omitempty"`
	SlowStart          string  `toml:"slow_start,omitempty" json:"slow_start,omitempty"`
	Drain              Strings `toml:"drain,omitempty" json:"drain,omitempty"`
	Wake               Strings `toml:"wake,omitempty" json:"wake,omitempty"` // see forward.ParseMAC
	WakeTimeout        string  `toml:"wake_timeout,omitempty" json:"wake_timeout,omitempty"`
	WakePassword       Secret  `toml:"wake_password,omitempty" json:"wake_password,omitempty"` // see forward.ParseWakePassword
	FastOpen           bool    `toml:"fast_open,omitempty" json:"fast_open,omitempty"`

	Host          Strings `toml:"host,omitempty" json:"host,omitempty"` // see forward.ParseHost
	TLS           string  `toml:"tls,omitempty" json:"tls,omitempty"`
	Cert          string  `toml:"cert,omitempty" json:"cert,omitempty"`
	Key           string  `toml:"key,omitempty" json:"key,omitempty"`
	Auth          string  `toml:"auth,omitempty" json:"auth,omitempty"`
	Allow         Strings `toml:"allow,omitempty" json:"allow,omitempty"`
	AwayPage      string  `toml:"away_page,omitempty" json:"away_page,omitempty"`
	RedirectHTTPS bool    `toml:"redirect_https,omitempty" json:"redirect_https,omitempty"`

	Users   Strings `toml:"users,omitempty" json:"users,omitempty"`
	Permit  Strings `toml:"permit,omitempty" json:"permit,omitempty"` // this and the other rules: see forward.ParseRule
	Deny    Strings `toml:"deny,omitempty" json:"deny,omitempty"`
	PAC     bool    `toml:"pac,omitempty" json:"pac,omitempty"`
	Direct  Strings `toml:"direct,omitempty" json:"direct,omitempty"`
	Through Strings `toml:"through,omitempty" json:"through,omitempty"`

	Helper       string  `toml:"helper,omitempty" json:"helper,omitempty"`
	PassivePorts string  `toml:"passive_ports,omitempty" json:"passive_ports,omitempty"`
	Publish      Publish `toml:"publish,omitempty" json:"publish,omitempty"`
}

// field is a pointer to what key sets, or nil for a key that is not known.
func (s *Spec) field(key string) any {
	switch key {
	case "listen":
		return &s.Listen
	case "to":
		return &s.To
	case "at":
		return &s.At
	case "via":
		return &s.Via
	case "balance":
		return &s.Balance
	case "from":
		return &s.From
	case "except":
		return &s.Except
	case "interface":
		return &s.Interface
	case "carry":
		return &s.Carry
	case "enabled":
		return &s.Enabled
	case "expires":
		return &s.Expires
	case "when":
		return &s.When
	case "max_connections":
		return &s.MaxConnections
	case "max_per_source":
		return &s.MaxPerSource
	case "bandwidth":
		return &s.Bandwidth
	case "source":
		return &s.Source
	case "send_proxy":
		return &s.SendProxy
	case "accept_proxy":
		return &s.AcceptProxy
	}
	if target := s.dynamicField(key); target != nil {
		return target
	}
	if target := s.reachField(key); target != nil {
		return target
	}
	if target := s.namesField(key); target != nil {
		return target
	}
	return s.relayField(key)
}

// Forward is the forward that s describes. The error is one *forward.FieldError or several joined; Hint says what would
// have been right. Networks come out masked, sorted and once each. Whether the nodes and users that it names are declared
// is not looked at: see CheckNodes and CheckUsers.
func (s Spec) Forward(name string, origin forward.Origin) (*forward.Forward, error) {
	f := &forward.Forward{
		Name: name, Origin: origin, At: s.At, Via: s.Via, Interface: s.Interface, Disabled: s.Enabled != nil && !*s.Enabled,
		MaxConnections: s.MaxConnections, MaxPerSource: s.MaxPerSource, FastOpen: s.FastOpen,
	}
	var errs []error
	check := func(field string, err error) {
		if err != nil {
			errs = append(errs, &forward.FieldError{Field: field, Err: err})
		}
	}
	var err error
	if s.Listen == "" {
		err = errors.New("a forward needs to know where it listens")
	} else {
		f.Listen, err = forward.ParseListen(s.Listen)
	}
	check("listen", err)
	f.To, err = parseTargets(s.To)
	check("to", err)
	check("at", checkNodeName(s.At))
	check("via", checkNodeName(s.Via))
	f.Balance, err = forward.ParseBalance(s.Balance)
	check("balance", err)
	f.From, err = parseNetworks(s.From, "everybody")
	check("from", err)
	f.Except, err = parseNetworks(s.Except, "nobody")
	check("except", err)
	check("interface", checkInterface(s.Interface))
	f.Carry, err = forward.ParseCarry(s.Carry)
	check("carry", err)
	f.Expires, err = parseExpires(s.Expires)
	check("expires", err)
	f.When, err = parseWhen(s.When)
	check("when", err)
	f.Bandwidth, err = ParseBandwidth(s.Bandwidth)
	check("bandwidth", err)
	f.Source, err = forward.ParseSource(s.Source)
	check("source", err)
	f.SendProxy, err = parseSendProxy(s.SendProxy)
	check("send_proxy", err)
	f.AcceptProxy, err = parseNetworks(s.AcceptProxy, "nobody")
	check("accept_proxy", err)
	s.relayed(f, check)
	s.dynamic(f, check)
	s.named(f, check)
	s.reach(f, check)
	if len(errs) > 0 { // what is missing above would only be complained about again
		check("", forward.CheckName(name))
		return nil, errors.Join(errs...)
	}
	if err := f.Validate(); err != nil {
		return nil, err
	}
	if n := claims(f); n > maxClaims {
		return nil, &forward.FieldError{Field: "from", Err: withHint{
			fmt.Errorf("%d networks times %d port ranges are %d combinations; %d is the most", len(f.From), len(f.Listen.Ports.Ranges), n, maxClaims),
			"write neighbouring networks or ports as one",
		}}
	}
	return f, nil
}

// SpecOf writes f down: SpecOf(f).Forward(f.Name, f.Origin) equals f.
func SpecOf(f *forward.Forward) Spec {
	s := Spec{
		Listen: f.Listen.String(), From: stringsOf(f.From), Except: stringsOf(f.Except), Interface: f.Interface,
		MaxConnections: f.MaxConnections, MaxPerSource: f.MaxPerSource, AcceptProxy: stringsOf(f.AcceptProxy),
		ConnectTimeout: forward.FormatDuration(f.ConnectTimeout), IdleTimeout: forward.FormatDuration(f.IdleTimeout),
		UDPIdle: forward.FormatDuration(f.UDPIdle), Check: f.Check.String(), CheckInterval: forward.FormatDuration(f.Check.Interval),
		SlowStart: forward.FormatDuration(f.SlowStart), Drain: stringsOf(f.Drain), Wake: stringsOf(f.Wake.MACs),
		WakeTimeout: forward.FormatDuration(f.Wake.Timeout), WakePassword: Secret(f.Wake.Password.Reveal()), FastOpen: f.FastOpen,
		Users: slices.Clone(f.Users), Permit: stringsOf(f.Policy.Permit), Deny: stringsOf(f.Policy.Deny),
		Helper: f.Helper.String(), PassivePorts: formatRange(f.PassivePorts), Publish: publishOf(f.Publish),
		PAC: f.PAC.Serve, Direct: stringsOf(f.PAC.Direct), Through: stringsOf(f.PAC.Through),
	}
	s.To = stringsOf(f.To)
	s.describeNames(f)
	if f.ListensAt() != forward.Host {
		s.At = f.At
	}
	if f.DialsFrom() != forward.Host {
		s.Via = f.Via
	}
	if f.Balance != 0 {
		s.Balance = f.Balance.String()
	}
	if f.Carry != forward.CarryAuto {
		s.Carry = f.Carry.String()
	}
	if f.Disabled {
		s.Enabled = new(bool)
	}
	if !f.Expires.IsZero() {
		s.Expires = f.Expires.UTC().Format(time.RFC3339Nano)
	}
	if !f.When.IsZero() {
		s.When = Strings{f.When.String()}
	}
	if f.Bandwidth != 0 {
		s.Bandwidth = FormatBandwidth(f.Bandwidth)
	}
	if f.BandwidthPerSource != 0 {
		s.BandwidthPerSource = FormatBandwidth(f.BandwidthPerSource)
	}
	if f.Source != forward.SourceAuto {
		s.Source = f.Source.String()
	}
	if f.SendProxy != 0 {
		s.SendProxy = fmt.Sprintf("v%d", f.SendProxy)
	}
	return s
}

func stringsOf[T fmt.Stringer](list []T) Strings {
	if len(list) == 0 {
		return nil
	}
	out := make(Strings, len(list))
	for i, item := range list {
		out[i] = item.String()
	}
	return out
}

// checkNodeName holds the name of a node to what one can be called; "" is this host.
func checkNodeName(name string) error {
	if name == "" {
		return nil
	}
	return forward.CheckName(name)
}

func parseWhen(list Strings) (forward.Schedule, error) {
	if list == nil {
		return forward.Schedule{}, nil
	}
	if len(list) == 0 {
		return forward.Schedule{}, withHint{errors.New("the list is empty"), "leave when out for always, or write enabled = false for never"}
	}
	const most = 500 // spans of hours are walked one by one
	if all := strings.Join(list, ", "); len(list) > most || strings.Count(all, ",") > most {
		return forward.Schedule{}, fmt.Errorf("the schedule has more than %d parts", most)
	}
	for i, s := range list {
		if _, err := forward.ParseSchedule(s); err != nil {
			return forward.Schedule{}, itemError{i, err}
		}
	}
	return forward.ParseSchedule(strings.Join(list, ", "))
}

func parseSendProxy(s string) (int, error) {
	switch s {
	case "":
		return 0, nil
	case "v1":
		return 1, nil
	case "v2":
		return 2, nil
	}
	return 0, fmt.Errorf("%q is no version of the PROXY protocol", s)
}

func parseExpires(s string) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		return time.Time{}, fmt.Errorf("%q is no date and time with a time zone", s)
	}
	if t = t.UTC(); t.Year() < 1970 || t.Year() > 9999 {
		return time.Time{}, fmt.Errorf("the year %d cannot be meant", t.Year())
	}
	return t, nil
}
