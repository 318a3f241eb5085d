package publish

import "net/netip"

// A Reach says from where an address can be reached.
type Reach uint8

// The kinds of addresses. What is none of the others is Public.
const (
	Public   Reach = iota
	Private        // RFC 1918, RFC 4193: of a site
	Shared         // RFC 6598, RFC 6333: of a provider's translator, behind which many customers have one address
	Local          // loopback and link-local
	Reserved       // documentation, benchmarks, multicast, and what is not assigned
)

func (r Reach) String() string {
	return [...]string{"public", "private", "cgnat", "local", "reserved"}[r]
}

// blocks are the addresses that are not public (the IANA special-purpose registries), the longer before what contains it.
var blocks = []struct {
	prefix netip.Prefix
	reach  Reach
}{
	{netip.MustParsePrefix("192.0.0.9/32"), Public},  // RFC 7723, PCP anycast
	{netip.MustParsePrefix("192.0.0.10/32"), Public}, // RFC 8155, TURN anycast
	{netip.MustParsePrefix("0.0.0.0/8"), Reserved},
	{netip.MustParsePrefix("10.0.0.0/8"), Private},
	{netip.MustParsePrefix("100.64.0.0/10"), Shared},
	{netip.MustParsePrefix("127.0.0.0/8"), Local},
	{netip.MustParsePrefix("169.254.0.0/16"), Local},
	{netip.MustParsePrefix("172.16.0.0/12"), Private},
	{netip.MustParsePrefix("192.0.0.0/29"), Shared}, // RFC 6333, DS-Lite; RFC 7335, 464XLAT
	{netip.MustParsePrefix("192.0.0.0/24"), Reserved},
	{netip.MustParsePrefix("192.0.2.0/24"), Reserved},
	{netip.MustParsePrefix("192.88.99.0/24"), Reserved},
	{netip.MustParsePrefix("192.168.0.0/16"), Private},
	{netip.MustParsePrefix("198.18.0.0/15"), Reserved},
	{netip.MustParsePrefix("198.51.100.0/24"), Reserved},
	{netip.MustParsePrefix("203.0.113.0/24"), Reserved},
	{netip.MustParsePrefix("224.0.0.0/3"), Reserved},
	{netip.MustParsePrefix("fc00::/7"), Private},
	{netip.MustParsePrefix("fe80::/10"), Local},
	{netip.MustParsePrefix("fec0::/10"), Private}, // RFC 3879, site-local, once
	{netip.MustParsePrefix("::1/128"), Local},
	{netip.MustParsePrefix("2001:db8::/32"), Reserved},
	{netip.MustParsePrefix("3fff::/20"), Reserved},
	{netip.MustParsePrefix("2001:2::/48"), Reserved},
	{netip.MustParsePrefix("2000::/3"), Public},
	{netip.MustParsePrefix("::/0"), Reserved},
}

// ReachOf is from where an address can be reached. No address, and an unspecified one, is Reserved.
func ReachOf(a netip.Addr) Reach {
	if !a.IsValid() {
		return Reserved
	}
	a = a.Unmap().WithZone("") // no prefix contains an address with a zone
	for _, b := range blocks {
		if b.prefix.Contains(a) {
			return b.reach
		}
	}
	return Public
}
