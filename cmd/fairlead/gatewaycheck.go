package main

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/fairlead-net/fairlead/config"
	"github.com/fairlead-net/fairlead/forward"
	"github.com/fairlead-net/fairlead/kernel"
)

// plannedGateway is [gateway] as `fairlead check --json` shows it.
type plannedGateway struct {
	WAN     []string `json:"wan"`
	LAN     []string `json:"lan"`
	DMZ     []string `json:"dmz"`
	Parts   []string `json:"parts"`   // keys of [gateway] that are in force
	Portmap []string `json:"portmap"` // the protocols in which the LAN may ask for ports; none: it may not
	Missing []string `json:"missing"` // interfaces that are not there now
	Notes   []string `json:"notes"`   // what is good to know before it is applied
	Error   string   `json:"error,omitempty"`
}

// planGateway is what s makes of this host; nil where it is no gateway.
func planGateway(s config.Settings, facts kernel.Facts) *plannedGateway {
	g := s.Gateway
	if g == nil {
		return nil
	}
	p := &plannedGateway{
		WAN: g.WAN, LAN: g.LAN, DMZ: append([]string{}, g.DMZ...), Parts: []string{}, Portmap: []string{}, Missing: missingInterfaces(g),
		Notes: append(strangeSNAT(g), openedByHelpers(g)...), Error: facts.Unusable,
	}
	for _, part := range []struct {
		on   bool
		word string
	}{
		{g.Masquerade && len(g.SNAT) == 0, "masquerade"}, {len(g.SNAT) > 0, "snat"}, {g.Protect, "protect"},
		{g.Independent, "endpoint_independent"}, {g.ClampMSS, "clamp_mss"}, {len(g.Helpers) > 0, "helpers"},
	} {
		if part.on {
			p.Parts = append(p.Parts, part.word)
		}
	}
	if s.Portmap != nil {
		for _, protocol := range s.Portmap.Protocols {
			p.Portmap = append(p.Portmap, string(protocol))
		}
	}
	return p
}

// missingInterfaces are the names in g that no interface of this host has now.
func missingInterfaces(g *forward.Gateway) []string {
	missing := []string{}
	there, err := net.Interfaces()
	if err != nil {
		return missing // it cannot be told
	}
	for _, name := range slices.Concat(g.WAN, g.LAN, g.DMZ) {
		if !slices.ContainsFunc(there, func(i net.Interface) bool { return named([]string{name}, i.Name) }) {
			missing = append(missing, name)
		}
	}
	return missing
}

// strangeSNAT is what to say of the addresses of snat that the WAN does not have now. A provider may route such a one here, so
// it is no mistake of the file.
func strangeSNAT(g *forward.Gateway) []string {
	said := []string{}
	if len(g.SNAT) == 0 {
		return said
	}
	there, err := net.Interfaces()
	if err != nil {
		return said // it cannot be told
	}
	for _, addr := range g.SNAT {
		at, wan := "", false
		for _, i := range there {
			if slices.ContainsFunc(addresses(i), func(n netip.Prefix) bool { return n.Addr() == addr }) {
				at, wan = i.Name, wan || named(g.WAN, i.Name)
			}
		}
		switch {
		case at == "":
			said = append(said, fmt.Sprintf("snat: no interface of this host has %s now; the answers to what the LAN sends get lost unless the provider routes that address here. Add it to the WAN: ip addr add %s dev %s",
				addr, netip.PrefixFrom(addr, addr.BitLen()), firstPlain(g.WAN)))
		case !wan:
			said = append(said, fmt.Sprintf("snat: %s is the address of %s, which is not the WAN; the answers to what the LAN sends get lost unless the provider routes that address here", addr, at))
		}
	}
	return said
}

// firstPlain is the first of names that is one of a single interface.
func firstPlain(names []string) string {
	for _, n := range names {
		if !strings.HasSuffix(n, "*") {
			return n
		}
	}
	return "INTERFACE"
}

// slipping are the helpers that open ports of a host of the LAN by what that host sends; see docs/gateway.md.
var slipping = []forward.Helper{forward.HelperFTP, forward.HelperSIP, forward.HelperIRC, forward.HelperH323}

// openedByHelpers is what to say of helpers for what the LAN starts.
func openedByHelpers(g *forward.Gateway) []string {
	var names []string
	for _, h := range g.Helpers {
		if slices.Contains(slipping, h) {
			names = append(names, h.String())
		}
	}
	if len(names) == 0 {
		return nil
	}
	return []string{"helpers: " + strings.Join(names, ", ") + " let in what a host of the LAN is made to announce, also by a web page that its browser shows (NAT slipstreaming); name only those that are needed"}
}

// print writes a line of what this host becomes, and one for each interface that is not there. Error is the command's.
func (p *plannedGateway) print(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "gateway: wan %s, lan %s", strings.Join(p.WAN, " "), strings.Join(p.LAN, " "))
	if len(p.DMZ) > 0 {
		fmt.Fprintf(&b, ", dmz %s", strings.Join(p.DMZ, " "))
	}
	if len(p.Parts) > 0 {
		fmt.Fprintf(&b, "; %s", strings.Join(p.Parts, ", "))
	}
	if len(p.Portmap) > 0 {
		fmt.Fprintf(&b, "; the LAN may ask for ports by %s", strings.Join(p.Portmap, ", "))
	}
	b.WriteByte('\n')
	for _, name := range p.Missing {
		fmt.Fprintf(&b, "  there is no interface %q now; it is served once it is there\n", name)
	}
	for _, note := range p.Notes {
		b.WriteString("  " + note + "\n")
	}
	_, err := io.WriteString(w, b.String())
	return err
}
