package portmap

import (
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/fairlead-net/fairlead/forward"
)

// A Spec is [gateway.portmap]: who of the LAN gets ports, which, and for how long.
type Spec struct {
	Protocols  []Protocol    // that are answered, sorted; never none
	IGD        int           // the version of the UPnP device: 1 (the default) or 2
	HTTPPort   uint16        // of the UPnP server; 0: any
	Allow      []Rule        // none: everybody
	Deny       []Rule        // comes before Allow
	Ports      forward.Ports // external ports that are given; a request for another gets one of these where its protocol lets it
	MaxLeases  int           // in all
	MaxClient  int           // of one client
	MinLife    time.Duration // a shorter lease is made as long
	MaxLife    time.Duration // a longer lease, or one for ever, is made as short
	Ask        bool          // a mapping leads nowhere until it, or its device, is approved
	ThirdParty bool          // PCP's THIRD_PARTY, and UPnP's mappings for others, are allowed
}

// The defaults of a Spec.
const (
	DefaultMaxLeases = 20_000
	DefaultMaxClient = 100
	DefaultMinLife   = 2 * time.Minute // RFC 6887, section 15
	DefaultMaxLife   = 24 * time.Hour
)

// A Rule is one line of Allow or Deny: all that it names has to fit.
type Rule struct {
	Client   netip.Prefix     // not valid: every address
	MAC      string           // of the client; "": any
	Networks forward.Networks // 0: both
	Ports    forward.Ports    // external; zero: every port
	Describe string           // a pattern (path.Match) of the description, in lower case; "": any
}

// Equal reports whether s and t are the same policy.
func (s *Spec) Equal(t *Spec) bool {
	if s == nil || t == nil {
		return s == t
	}
	return slices.Equal(s.Protocols, t.Protocols) && s.IGD == t.IGD && s.HTTPPort == t.HTTPPort && slices.EqualFunc(s.Allow, t.Allow, Rule.Equal) &&
		slices.EqualFunc(s.Deny, t.Deny, Rule.Equal) && s.Ports.Equal(t.Ports) && s.MaxLeases == t.MaxLeases && s.MaxClient == t.MaxClient &&
		s.MinLife == t.MinLife && s.MaxLife == t.MaxLife && s.Ask == t.Ask && s.ThirdParty == t.ThirdParty
}

// Equal reports whether r and o say the same.
func (r Rule) Equal(o Rule) bool {
	return r.Client == o.Client && r.MAC == o.MAC && r.Networks == o.Networks && r.Ports.Equal(o.Ports) && r.Describe == o.Describe
}

// A Place is an interface whose clients are served, and the addresses of this host there that they use as their gateway.
type Place struct {
	Interface net.Interface
	Addrs     []netip.Prefix // with the length of their network; IPv4 first
}
