// Package forward holds the nouns of Fairlead: what a forward is, what it claims, who asked for it, and how it is doing.
//
// A forward listens on one node and dials from another. Everything here is plain data with pure functions on it: no I/O, no
// clocks of its own, nothing outside the standard library. How a forward is written in a file belongs to package config; how
// it is carried belongs to the carriers.
package forward

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// Host is the node that every forward listens at and dials from unless it says otherwise: this machine.
const Host = "host"

// MaxNameLen is the longest name of a forward, in bytes. It keeps names usable as nftables comments and metric labels.
const MaxNameLen = 64

// A Forward is one sentence: what arrives at Listen, on node At, is carried to To, dialled from node Via.
// A Forward that has been handed to the table is never changed again; a change is a new Forward.
type Forward struct {
	Name   string
	Origin Origin
	At     string // node that listens; "" is Host
	Via    string // node that dials; "" is Host

	Listen  Listen
	To      []Target
	Balance Balance // how one of several targets is picked

	From      []netip.Prefix // clients that are served; none means everybody
	Except    []netip.Prefix // clients taken out of From again
	Interface string         // only what comes in here; "" is any interface

	Hosts []string // names that clients call by HTTP or TLS, on a port that may be shared with other names; none: all of the port
	Site  Site     // of a forward with Hosts

	Carry          Carry
	Disabled       bool
	Expires        time.Time // zero: never
	When           Schedule  // zero: always
	MaxConnections int       // sessions open at once; 0 is no limit
	MaxPerSource   int       // sessions open at once from one client address; 0 is no limit
	Bandwidth      int64     // bytes a second, each way, over all sessions; 0 is no limit
	Source         Source
	SendProxy      int            // PROXY protocol version sent to the target: 0 (none), 1 or 2
	AcceptProxy    []netip.Prefix // clients whose PROXY protocol header is believed; none means no header is read

	ConnectTimeout     time.Duration // how long a target may take to answer; 0 is the relay's default
	IdleTimeout        time.Duration // a TCP session without a byte either way for so long is ended; 0 is never
	UDPIdle            time.Duration // a UDP flow without a datagram either way for so long is forgotten; 0 is DefaultUDPUnanswered and DefaultUDPAnswered
	BandwidthPerSource int64         // bytes a second, each way, over all sessions of one client address; 0 is no limit
	Check              Check         // how targets are asked whether they are well; zero is not at all
	SlowStart          time.Duration // a target that came back reaches its full share after so long; 0 is at once
	Drain              []Target      // those of To that take no new sessions
	Wake               Wake          // how targets that sleep are woken; zero is not at all
	FastOpen           bool          // TCP Fast Open (RFC 7413), from clients and towards targets

	// Of a dynamic forward.
	Users  []string // who may use it, logged in; none: everybody declared, where clients have to log in at all
	Anyone bool     // nobody logs in, wherever clients come from: no file says so, only who starts it by hand and sees it run
	Policy Policy   // where its clients may go
	PAC    PAC

	Helper       Helper  // reads the protocol for further connections that it negotiates
	PassivePorts Range   // of helper = "ftp" in the relay: where data connections are offered; zero: any port
	Publish      Publish // what gateways upstream are asked for
	Lease        *Lease  // who of the LAN asked for it; nil: nobody
	Outbound     bool    // on a gateway: what the target sends from its port by itself leaves from the port of Listen
}

// Equal reports whether f and g ask for the same thing, so that replacing one by the other need not touch a session.
func (f *Forward) Equal(g *Forward) bool {
	if f == g {
		return true
	}
	return f.Name == g.Name && f.Origin == g.Origin && node(f.At) == node(g.At) && node(f.Via) == node(g.Via) &&
		f.SameListener(g) && slices.Equal(f.To, g.To) && f.Balance == g.Balance &&
		f.Carry == g.Carry && f.Disabled == g.Disabled && f.Expires.Equal(g.Expires) && f.When.Equal(g.When) &&
		f.MaxConnections == g.MaxConnections && f.MaxPerSource == g.MaxPerSource && f.Bandwidth == g.Bandwidth &&
		f.Source == g.Source && f.SendProxy == g.SendProxy && slices.Equal(f.AcceptProxy, g.AcceptProxy) &&
		f.ConnectTimeout == g.ConnectTimeout && f.IdleTimeout == g.IdleTimeout && f.UDPIdle == g.UDPIdle &&
		f.BandwidthPerSource == g.BandwidthPerSource && f.Check == g.Check && f.SlowStart == g.SlowStart &&
		slices.Equal(f.Drain, g.Drain) && f.Wake.Equal(g.Wake) && f.FastOpen == g.FastOpen && f.Site.Equal(g.Site) && f.sameProxy(g) && f.sameReach(g)
}

// sameReach is Equal for how f is reached from beyond gateways, and for what negotiates further connections.
func (f *Forward) sameReach(g *Forward) bool {
	return f.Helper == g.Helper && f.PassivePorts == g.PassivePorts && f.Publish == g.Publish && f.Lease.Equal(g.Lease) && f.Outbound == g.Outbound
}

// sameProxy is Equal for what a dynamic forward has.
func (f *Forward) sameProxy(g *Forward) bool {
	return slices.Equal(f.Users, g.Users) && f.Anyone == g.Anyone && f.Policy.Equal(g.Policy) && f.PAC.Equal(g.PAC)
}

// SameListener reports whether f and g claim the same traffic: the same listen, from, except, interface and names.
func (f *Forward) SameListener(g *Forward) bool {
	return f.Listen.Equal(g.Listen) && slices.Equal(f.From, g.From) && slices.Equal(f.Except, g.Except) && f.Interface == g.Interface &&
		slices.Equal(f.Hosts, g.Hosts)
}

// ListensAt is the name of the node that listens, Host when nothing was said.
func (f *Forward) ListensAt() string { return node(f.At) }

// DialsFrom is the name of the node that dials, Host when nothing was said.
func (f *Forward) DialsFrom() string { return node(f.Via) }

func node(name string) string {
	if name == "" {
		return Host
	}
	return name
}

// Admits reports whether From and Except let the client with this address in.
func (f *Forward) Admits(client netip.Addr) bool {
	client = client.Unmap().WithZone("") // no prefix contains an address with a zone
	contains := func(p netip.Prefix) bool { return p.Contains(client) }
	if len(f.From) > 0 && !slices.ContainsFunc(f.From, contains) {
		return false
	}
	return !slices.ContainsFunc(f.Except, contains)
}

// TargetPort is the port of target t that a client reaches who came to port: the same one when t names none, the one at
// the same place of a range of the same length, else the one port that t names.
func (f *Forward) TargetPort(t Target, port uint16) uint16 {
	switch {
	case t.Ports.IsZero():
		return port
	case t.Ports.First == t.Ports.Last:
		return t.Ports.First
	default:
		return t.Ports.First + f.Listen.Ports.offset(port)
	}
}

// Shifted reports whether some port is carried to a different port that depends on it (8000-8010 to 9000-9010).
func (f *Forward) Shifted(t Target) bool {
	return t.Ports.First != t.Ports.Last && (f.Listen.Ports.All || t.Ports.First != f.Listen.Ports.Ranges[0].First)
}

// CheckName says whether name can name a forward: 1 to 64 letters, digits, dots, dashes and underscores, the first of
// them a letter or digit. Names appear in files, URLs, rule comments and metrics, and must mean the same in all of them.
func CheckName(name string) error {
	if name == "" {
		return errors.New("a forward needs a name")
	}
	if len(name) > MaxNameLen {
		return fmt.Errorf("the name %q… is %d bytes long; %d is the most", name[:16], len(name), MaxNameLen)
	}
	for i, c := range []byte(name) {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		case i > 0 && strings.IndexByte("._-", c) >= 0:
		default:
			return fmt.Errorf("the name %q may only have letters, digits, '.', '_' and '-', and starts with a letter or digit", name)
		}
	}
	return nil
}

// Validate reports every combination that no carrier on any node could carry, or nil. Each problem is a *FieldError
// (several are joined), so that a caller who knows where a key was written can point at it.
func (f *Forward) Validate() error {
	var errs []error
	bad := func(field, format string, args ...any) {
		errs = append(errs, &FieldError{Field: field, Err: fmt.Errorf(format, args...)})
	}
	if err := CheckName(f.Name); err != nil {
		bad("", "%w", err)
	}
	if len(f.To) == 0 {
		bad("to", "a forward needs a target, such as \"192.168.1.10:8080\"")
	}
	udp := f.Listen.Networks&UDP != 0
	for _, t := range f.To {
		f.validateTarget(t, udp, bad)
	}
	if f.Listen.IsUnix() {
		const reason = "clients of a unix socket have no address; from, except and interface cannot apply"
		if len(f.From) > 0 {
			bad("from", reason)
		}
		if len(f.Except) > 0 {
			bad("except", reason)
		}
		if f.Interface != "" {
			bad("interface", reason)
		}
		if f.MaxPerSource > 0 {
			bad("max_per_source", "clients of a unix socket have no address to count by")
		}
		if f.BandwidthPerSource > 0 {
			bad("bandwidth_per_source", "clients of a unix socket have no address to count by")
		}
	}
	if udp && f.SendProxy == 1 {
		bad("send_proxy", "version 1 of the PROXY protocol is for tcp, and listen here is %s; write \"v2\"", f.Listen.Networks)
	}
	f.validateTimes(bad)
	f.validateCheck(bad)
	f.validateTargets(bad)
	f.validatePinhole(bad)
	f.validateWake(bad)
	f.validateLimits(bad)
	f.validateDynamic(bad)
	f.validateNames(bad)
	f.validatePublish(bad)
	f.validateHelper(bad)
	return errors.Join(errs...)
}

func (f *Forward) validateTarget(t Target, udp bool, bad func(field, format string, args ...any)) {
	ports := f.Listen.Ports
	switch {
	case t.Head != HeadNone: // see validateDynamic
		return
	case t.IsUnix():
		if udp {
			bad("to", "a unix socket is a stream and cannot carry udp; write listen = \"tcp/…\" or give a host and port")
		} else if t.Path == f.Listen.Path && f.ListensAt() == f.DialsFrom() {
			bad("to", "listen and to are both %s: the forward would lead to itself", t)
		}
	case f.Listen.IsUnix():
		if t.Ports.IsZero() {
			bad("to", "a listener on a unix socket has no port to keep; write %s:PORT", t)
		} else if t.Ports.First != t.Ports.Last {
			bad("to", "one unix socket cannot lead to a range of ports; write one port")
		}
	case t.Ports.IsZero() && t.IsLocal():
		bad("to", "a target on this host needs a port, such as \":8443\"")
	case t.Ports.First != t.Ports.Last && ports.All:
		bad("to", "\"*\" keeps its ports or goes to one; a range does not fit")
	case t.Ports.First != t.Ports.Last && (len(ports.Ranges) != 1 || ports.Count() != t.Ports.Count()):
		bad("to", "listen has %d ports (%s) and to has %d (%s): give ranges of the same length, one port, or none",
			ports.Count(), ports, t.Ports.Count(), t.Ports)
	case f.leadsToItself(t) && !f.IsPinhole():
		both := ports.String()
		if !t.Ports.IsZero() {
			both = t.Ports.String()
		}
		bad("to", "listen and to are both port %s of this host: the forward would lead to itself", both)
	}
	if t.IsLocal() && ports.All {
		bad("to", "\"*\" takes the ports that this host does not use; its target is another host, such as \"192.168.1.50\"")
	}
}

// leadsToItself reports whether t is where f listens, as far as the wording tells: the relay would call itself until it
// runs out of descriptors. A forward of one interface leaves loopback to the programs of this host.
func (f *Forward) leadsToItself(t Target) bool {
	l := f.Listen
	if l.Networks == 0 || l.IsUnix() || f.ListensAt() != f.DialsFrom() {
		return false
	}
	every := !l.Addr.IsValid() || l.Addr.IsUnspecified() && l.Addr.Is4() == t.Addr.Is4()
	same := t.IsLocal() || t.Addr.IsValid() && (t.Addr == l.Addr || every && t.Addr.IsLoopback() && f.Interface == "")
	return same && (t.Ports.IsZero() || l.Ports.overlaps(t.Ports))
}

func (f *Forward) validateLimits(bad func(field, format string, args ...any)) {
	if f.MaxConnections < 0 {
		bad("max_connections", "max_connections is %d; it is 1 or more, or left out for no limit", f.MaxConnections)
	}
	if f.MaxPerSource < 0 {
		bad("max_per_source", "max_per_source is %d; it is 1 or more, or left out for no limit", f.MaxPerSource)
	}
	if f.Bandwidth < 0 {
		bad("bandwidth", "bandwidth is negative; write it like \"10Mbit\", or leave it out for no limit")
	}
	if f.BandwidthPerSource < 0 {
		bad("bandwidth_per_source", "bandwidth_per_source is negative; write it like \"10Mbit\", or leave it out for no limit")
	}
	if reason := f.NeedsRelay(); reason != "" {
		if f.Listen.Ports.All {
			bad("listen", "\"*\" is carried by the kernel alone, but %s", reason)
		} else if f.Carry == CarryKernel {
			bad("carry", "carry = \"kernel\" is impossible: %s", reason)
		}
	}
	if f.Carry == CarryRelay {
		if f.Listen.Ports.All {
			bad("carry", "\"*\" is carried by the kernel alone; leave carry out")
		}
	}
	if f.Source == SourceKeep && (f.Carry == CarryRelay || f.NeedsRelay() != "") {
		if reason := f.RelayCannotKeep(); reason != "" {
			bad("source", "source = \"keep\" is impossible: %s", reason)
		}
	}
	if f.Source == SourceRewrite && f.Listen.IsUnix() {
		bad("source", "clients of a unix socket have no address to rewrite")
	}
}

// A FieldError is a value of a forward that cannot be. Field is the key as it is written in fairlead.toml, or "" for the
// name.
type FieldError struct {
	Field string
	Err   error
}

func (e *FieldError) Error() string {
	if e.Field == "" {
		return e.Err.Error()
	}
	return e.Field + ": " + e.Err.Error()
}

func (e *FieldError) Unwrap() error { return e.Err }
