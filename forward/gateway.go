package forward

import (
	"net/netip"
	"slices"
	"strings"
	"time"
)

// A Gateway is what this host does for a network besides forwarding ports: it is its router.
type Gateway struct {
	WAN []string // interfaces to the outside
	LAN []string // interfaces of those it is the gateway of
	DMZ []string // interfaces of hosts that are reached from the WAN by forwards alone, and may not start anything into the LAN

	Masquerade  bool         // what leaves by the WAN has the address of the interface it leaves by (IPv4)
	SNAT        []netip.Addr // or these: at most one of each family
	Protect     bool         // what comes in by the WAN is dropped, but for answers, forwards, leases and Open
	Open        []Listen     // what of this host is reached from the WAN all the same
	Independent bool         // mapping and filtering are endpoint-independent (RFC 4787, REQ-1 and REQ-8; RFC 5382), for TCP and UDP
	ClampMSS    bool         // the MSS of TCP that leaves by the WAN is lowered to what the path takes
	Helpers     []Helper     // of what the LAN and the DMZ start
}

// Equal reports whether g and h are the same gateway.
func (g *Gateway) Equal(h *Gateway) bool {
	if g == nil || h == nil {
		return g == h
	}
	return slices.Equal(g.WAN, h.WAN) && slices.Equal(g.LAN, h.LAN) && slices.Equal(g.DMZ, h.DMZ) && g.Masquerade == h.Masquerade &&
		slices.Equal(g.SNAT, h.SNAT) && g.Protect == h.Protect && slices.EqualFunc(g.Open, h.Open, Listen.Equal) &&
		g.Independent == h.Independent && g.ClampMSS == h.ClampMSS && slices.Equal(g.Helpers, h.Helpers)
}

// A Helper is an application-level gateway: what reads a protocol that negotiates further connections, so that those come
// through, too.
type Helper uint8

// The helpers; HelperNone is none.
const (
	HelperNone Helper = iota
	HelperFTP
	HelperSIP
	HelperTFTP
	HelperIRC
	HelperPPTP
	HelperH323
	HelperAmanda
)

var helperWords = []string{"", "ftp", "sip", "tftp", "irc", "pptp", "h323", "amanda"}

func (h Helper) String() string { return helperWords[h] }

// ParseHelper reads the name of a helper, as the kernel's conntrack has them.
func ParseHelper(s string) (Helper, error) { return parseWord[Helper](s, helperWords) }

// Publish is whether, and how, gateways upstream are asked for a mapping of a forward's ports.
type Publish struct {
	On     bool
	Port   uint16 // the external port that is asked for; 0: the one that the forward listens at
	Random bool   // any port will do
}

// A Lease is what is known of the client of the LAN that asked for a forward.
type Lease struct {
	Client      netip.Addr // who asked
	MAC         string     // of Client, as net.HardwareAddr writes it; "" where the neighbour table had none
	Hostname    string     // of Client; ""
	Description string     // what the client said that it is for; printable
	Asking      bool       // it waits to be approved, and leads nowhere
	Off         bool       // the client wants it to lead nowhere for now (UPnP's NewEnabled = 0), approved or not
	Lifetime    time.Duration
	Nonce       string // of PCP, in hexadecimal; ""
}

// Equal reports whether l and m say the same.
func (l *Lease) Equal(m *Lease) bool {
	if l == nil || m == nil {
		return l == m
	}
	return *l == *m
}

// maxPublished is how many ports of one forward are asked for: gateways have a mapping for each.
const maxPublished = 64

func (f *Forward) validatePublish(bad func(field, format string, args ...any)) {
	l := f.Listen
	switch {
	case !f.Publish.On:
	case f.ListensAt() != Host:
		bad("publish", "it listens at node %s, whose gateway is not this host's to ask; leave publish out", f.At)
	case l.IsUnix(), l.Addr.IsValid() && l.Addr.IsLoopback():
		bad("publish", "it listens at %s, which no gateway leads to; listen on a port of all addresses, such as \"8080\"", l)
	case l.Ports.All, l.Ports.Count() > maxPublished:
		bad("publish", "gateways have a mapping for each port, and %d is the most that are asked for", maxPublished)
	case f.Publish.Port != 0 && l.Ports.Count() > 1:
		bad("publish", "one external port cannot lead to %d ports; write publish = true for the same ones", l.Ports.Count())
	}
}

// IsLease reports whether a program of the LAN asked for it.
func (o Origin) IsLease() bool { return strings.HasPrefix(string(o), "lease:") }
