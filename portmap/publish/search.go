package publish

import (
	"context"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/fairlead-net/fairlead/portmap/ssdp"
	"github.com/fairlead-net/fairlead/portmap/upnp"
)

// found is who answered a search.
type found struct {
	own    []string // where the gateway says that its descriptions are
	boot   uint32   // counts its starts; 0: it does not say
	others []stranger
}

// A stranger is somebody else in the network who says that it is a gateway.
type stranger struct {
	addr      netip.Addr
	locations []string
}

// The bounds of a search. Devices spread their answers over the seconds of MX.
const (
	searchTime   = 2500 * time.Millisecond
	searchGrace  = 200 * time.Millisecond // for those who answer after the gateway
	searchMX     = 1
	maxStrangers = 4
	maxLocations = 3 // of one host
)

var searchTargets = []string{upnp.InternetGatewayDevice + ":1", upnp.InternetGatewayDevice + ":2", ssdp.RootDevice}

// probeSSDP asks the gateway itself, and, if it is in this host's own network, everybody.
func (g *gateway) probeSSDP(ctx context.Context) (found, error) {
	var f found
	limited, end := context.WithTimeout(ctx, searchTime)
	defer end()
	err := g.net.Ask(limited, g.local, g.searches(), func(h Heard) bool {
		m, err := ssdp.Parse(h.Payload)
		if err != nil || m.Kind != ssdp.Answer || m.Location == "" {
			return true
		}
		location, ok := checkLocation(m.Location, h.From)
		if !ok {
			g.log.Debug("an answer to a search leads elsewhere, and is not followed", keyFrom, h.From, "location", m.Location)
			return true
		}
		if h.From == g.addr {
			f.boot = max(f.boot, m.Boot)
			if len(f.own) < maxLocations && !slices.Contains(f.own, location) {
				f.own = append(f.own, location)
			}
			if strings.HasPrefix(m.Target, upnp.InternetGatewayDevice) {
				time.AfterFunc(searchGrace, end)
			}
			return true
		}
		f.stranger(g, h.From, location, m.Target)
		return true
	})
	if ctx.Err() != nil {
		return f, ctx.Err()
	}
	if err != nil {
		g.log.Debug("a search could not be sent", keyGateway, g.addr, keyErr, err)
	}
	// A gateway may answer from another of its IPv6 addresses than the one that routes lead to.
	if g.addr.Is6() && len(f.own) == 0 {
		for _, s := range f.others {
			f.own = append(f.own, s.locations...)
		}
		f.own, f.others = f.own[:min(len(f.own), maxLocations)], nil
	}
	return f, nil
}

// stranger takes down somebody who is no default route's gateway. Only who is in the same network and says that it is one counts.
func (f *found) stranger(g *gateway, from netip.Addr, location, target string) {
	if g.level > 0 || !strings.HasPrefix(target, upnp.InternetGatewayDevice) || !g.local.Masked().Contains(from.WithZone("")) && !from.IsLinkLocalUnicast() {
		return
	}
	i := slices.IndexFunc(f.others, func(s stranger) bool { return s.addr == from })
	switch {
	case i >= 0:
		if s := &f.others[i]; len(s.locations) < maxLocations && !slices.Contains(s.locations, location) {
			s.locations = append(s.locations, location)
		}
	case len(f.others) < maxStrangers:
		f.others = append(f.others, stranger{from, []string{location}})
	}
}

// searches is what is sent where.
func (g *gateway) searches() []Datagram {
	to := []netip.Addr{g.addr}
	if g.level == 0 {
		group := netip.MustParseAddr(ssdp.Group4)
		if g.addr.Is6() {
			group = netip.MustParseAddr(ssdp.Group6Link).WithZone(g.local.Interface)
		}
		to = append(to, group)
	}
	var list []Datagram
	for _, addr := range to {
		at := netip.AddrPortFrom(addr, ssdp.Port)
		for _, target := range searchTargets {
			m := ssdp.Message{Kind: ssdp.Search, Host: netip.AddrPortFrom(addr.WithZone(""), ssdp.Port).String(), Target: target, MX: searchMX}
			list = append(list, Datagram{at, m.Append(nil)})
		}
	}
	return list
}

// checkLocation is where a description is, if it is with who says so. Of a gateway with several IPv6 addresses it may say another than
// it answers from; then it is looked for where it answers from. Nothing else of a foreign address is ever used.
func checkLocation(location string, from netip.Addr) (string, bool) {
	u, err := url.Parse(location)
	if err != nil || u.Scheme != "http" || u.User != nil || u.Opaque != "" {
		return "", false
	}
	host, err := netip.ParseAddr(u.Hostname())
	if err != nil || host.Is4() != from.Is4() || from.Is4() && host != from {
		return "", false
	}
	port := u.Port()
	u.Host = from.String()
	if from.Is6() {
		u.Host = "[" + u.Host + "]"
	}
	if port != "" {
		u.Host += ":" + port
	}
	u.Fragment = ""
	return u.String(), true
}
