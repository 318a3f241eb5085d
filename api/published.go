package api

import (
	"time"

	"github.com/fairlead-net/fairlead/portmap/publish"
)

// Published is where ports are reached from outside, or what is wrong: of a forward that is published in `fairlead status --json`, and
// what `fairlead open --json` prints.
type Published struct {
	State    string          `json:"state"`    // "searching", "open", "limited" or "failed"
	Endpoint []string        `json:"endpoint"` // "tcp/198.51.100.7:8080", the best first; those of a limited one are not reached from the internet
	Protocol string          `json:"protocol"` // "pcp", "natpmp", "upnp"; "" where nobody was or could be asked
	Gateway  []string        `json:"gateway"`  // of the first endpoint, from the nearest to the one that has the address
	Expires  *time.Time      `json:"expires"`  // when the first lease ends unless it is renewed; null: never
	Verified bool            `json:"verified"` // the gateways said afterwards that they have the mappings
	Kind     string          `json:"kind"`     // of the problem: "no-gateway", "silent", "failed", "full", "conflict", "no-external", "disabled", "denied", "double-nat", "cgnat", "local"
	Problem  string          `json:"problem"`  // in words, or ""
	Hint     string          `json:"hint"`     // what may help, or ""
	Ports    []PublishedPort `json:"ports"`    // each endpoint
	Since    *time.Time      `json:"since"`    // when it came into this state
}

// PublishedPort is one endpoint.
type PublishedPort struct {
	Network  string     `json:"network"` // "tcp" or "udp"
	Public   string     `json:"public"`
	Internal string     `json:"internal"`
	Global   bool       `json:"global"` // the internet reaches it, as far as its address tells
	Protocol string     `json:"protocol"`
	Gateway  []string   `json:"gateway"`
	Expires  *time.Time `json:"expires"`
	Verified bool       `json:"verified"`
}

// PublishedOf is s as it goes over the wire.
func PublishedOf(s publish.State) Published {
	out := Published{
		State: s.Phase.String(), Endpoint: []string{}, Protocol: string(s.Protocol()), Gateway: []string{}, Expires: timeOf(s.Expires()),
		Verified: s.Verified(), Ports: []PublishedPort{}, Since: timeOf(s.Since),
	}
	if p := s.Problem; p != nil {
		out.Kind, out.Problem, out.Hint = p.Kind.String(), p.Text, p.Hint
	}
	for i, e := range s.Endpoints {
		port := PublishedPort{
			Network: e.Network.String(), Public: e.Public.String(), Internal: e.Internal.String(), Global: e.Global(),
			Protocol: string(e.Protocol), Gateway: []string{}, Expires: timeOf(e.Expires), Verified: e.Verified,
		}
		for _, g := range e.Gateways {
			port.Gateway = append(port.Gateway, g.String())
		}
		out.Endpoint = append(out.Endpoint, port.Network+"/"+port.Public)
		if i == 0 {
			out.Gateway = port.Gateway
		}
		out.Ports = append(out.Ports, port)
	}
	return out
}
