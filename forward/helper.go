package forward

import (
	"fmt"
	"strings"
)

// A HelperProtocol is one transport protocol of what a helper reads.
type HelperProtocol struct {
	Network Networks // TCP or UDP
	Port    uint16   // the well-known one
	Kernel  string   // the helper's name in the kernel (net/netfilter/nf_conntrack_*.c)
	Module  string   // of the kernel, that has it
}

// helperProtocols are those of each helper, TCP before UDP.
var helperProtocols = [...][]HelperProtocol{
	HelperNone:   nil,
	HelperFTP:    {{TCP, 21, "ftp", "nf_conntrack_ftp"}},                                               // RFC 959
	HelperSIP:    {{TCP, 5060, "sip", "nf_conntrack_sip"}, {UDP, 5060, "sip", "nf_conntrack_sip"}},     // RFC 3261, section 18
	HelperTFTP:   {{UDP, 69, "tftp", "nf_conntrack_tftp"}},                                             // RFC 1350
	HelperIRC:    {{TCP, 6667, "irc", "nf_conntrack_irc"}},                                             // DCC
	HelperPPTP:   {{TCP, 1723, "pptp", "nf_conntrack_pptp"}},                                           // RFC 2637
	HelperH323:   {{TCP, 1720, "Q.931", "nf_conntrack_h323"}, {UDP, 1719, "RAS", "nf_conntrack_h323"}}, // H.225.0
	HelperAmanda: {{UDP, 10080, "amanda", "nf_conntrack_amanda"}},
}

// Protocols are the transport protocols that h reads, TCP before UDP.
func (h Helper) Protocols() []HelperProtocol { return helperProtocols[h] }

// Networks are those of Protocols.
func (h Helper) Networks() (all Networks) {
	for _, p := range h.Protocols() {
		all |= p.Network
	}
	return all
}

// IPv4Only reports whether h reads nothing of IPv6: the kernel has these for IPv4 alone.
func (h Helper) IPv4Only() bool { return h == HelperIRC || h == HelperPPTP }

// InRelay reports whether the relay reads the protocol, too.
func (h Helper) InRelay() bool { return h == HelperFTP }

// MaxPassivePorts is how many passive_ports there may be: each is a listener.
const MaxPassivePorts = 1024

// minDataPort is the least port of a data connection: those below are of services.
const minDataPort = 1024

func (f *Forward) validateHelper(bad func(field, format string, args ...any)) {
	if !f.PassivePorts.IsZero() {
		f.validatePassivePorts(bad)
	}
	h := f.Helper
	if h == HelperNone {
		return
	}
	switch {
	case f.Dynamic() != HeadNone:
		bad("helper", "helper is for a fixed target, and clients of a proxy say themselves where they go")
		return
	case f.Listen.IsUnix():
		bad("helper", "clients of a unix socket have no address that further connections could come from")
		return
	case f.Listen.Ports.All:
		bad("helper", "helper = %q reads one protocol, and \"*\" has them all; give its port a forward of its own, such as listen = %q", h, h.example())
	case f.Listen.Networks&^h.Networks() != 0:
		bad("helper", "helper = %q reads %s, and listen is %s; write listen = %q", h, h.Networks(), f.Listen, h.example())
	case f.ListensAt() != Host:
		bad("helper", "helper = %q opens further ports beside the one it listens at, which node %s does not", h, f.At)
	}
	if h.IPv4Only() && f.ofIPv6() {
		bad("helper", "the kernel's helper for %s reads IPv4 alone", h)
	}
	if !h.InRelay() {
		if reason := f.NeedsRelay(); reason != "" {
			bad("helper", "helper = %q is the kernel's, but %s", h, reason)
		} else if f.Carry == CarryRelay {
			bad("helper", "helper = %q is the kernel's, and the relay reads ftp alone; leave carry out", h)
		}
		return
	}
	for _, t := range f.To {
		if t.IsUnix() {
			bad("to", "target %s is a unix socket, beside which there are no ports for data connections", t)
		}
	}
	if len(f.AcceptProxy) > 0 {
		bad("accept_proxy", "data connections come past the proxy that would say whose they are; leave helper or accept_proxy out")
	}
	if f.SendProxy != 0 {
		bad("send_proxy", "a header in the control connection says nothing of the data connections; leave helper or send_proxy out")
	}
}

func (f *Forward) validatePassivePorts(bad func(field, format string, args ...any)) {
	p := f.PassivePorts
	switch {
	case f.Helper != HelperFTP:
		bad("passive_ports", "passive_ports is for helper = \"ftp\"")
	case f.Carry == CarryKernel: // NeedsRelay says so of carry
	case p.First < minDataPort:
		bad("passive_ports", "passive_ports is %s; data connections use ports from %d on", p, minDataPort)
	case p.Count() > MaxPassivePorts:
		bad("passive_ports", "passive_ports has %d ports; %d are the most, since each is listened at", p.Count(), MaxPassivePorts)
	case f.Listen.Ports.overlaps(p):
		bad("passive_ports", "passive_ports is %s, which has a port of listen (%s) in it", p, f.Listen.Ports)
	}
}

// ofIPv6 reports whether only IPv6 comes in, or leaves.
func (f *Forward) ofIPv6() bool {
	if f.Listen.Addr.IsValid() && f.Listen.Addr.Is6() {
		return true
	}
	for _, t := range f.To {
		if !t.Addr.IsValid() || t.Addr.Is4() {
			return false
		}
	}
	return len(f.To) > 0
}

// example is what listen may look like.
func (h Helper) example() string {
	p := h.Protocols()
	if len(p) == 2 && p[0].Port == p[1].Port {
		return fmt.Sprintf("tcp+udp/%d", p[0].Port)
	}
	var words []string
	for _, one := range p {
		words = append(words, fmt.Sprintf("%s/%d", one.Network, one.Port))
	}
	return strings.Join(words, "\" or \"")
}
