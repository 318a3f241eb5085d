package forward

import (
	"slices"
	"strings"
)

// A Door is where somebody else's node is asked to listen, and whom clients have to call there to be meant.
type Door struct {
	Listen
	Hosts         []string // as those of a Forward; none: all clients of the port
	TLS           TLS      // of clients who call one of Hosts: TLSPass or TLSACME
	RedirectHTTPS bool     // they are sent to https:// where they call without TLS
}

// Equal reports whether d and e are the same place for the same clients.
func (d Door) Equal(e Door) bool {
	return d.Listen.Equal(e.Listen) && d.SameSite(e)
}

// SameSite reports whether d and e are for the same clients of a port, and do the same for them.
func (d Door) SameSite(e Door) bool {
	return slices.Equal(d.Hosts, e.Hosts) && d.TLS == e.TLS && d.RedirectHTTPS == e.RedirectHTTPS
}

// Named reports whether clients of d are told apart by the name that they call.
func (d Door) Named() bool { return len(d.Hosts) > 0 }

// SameHosts reports whether some client that calls a name of d calls one of e.
func (d Door) SameHosts(e Door) bool {
	if !d.Named() || !e.Named() {
		return true
	}
	return slices.ContainsFunc(d.Hosts, func(name string) bool { return slices.Contains(e.Hosts, name) })
}

// Check says what is wrong with a door that somebody else has described.
func (d Door) Check() error {
	f := Forward{Name: "door", Listen: d.Listen, To: []Target{{Host: "any", Ports: Range{First: 1, Last: 1}}}, Hosts: d.Hosts, Site: d.Site()}
	return f.Validate()
}

// Site is what is done for the clients of a forward that listens at d.
func (d Door) Site() Site { return Site{TLS: d.TLS, RedirectHTTPS: d.RedirectHTTPS} }

// String is the place, and the names after it.
func (d Door) String() string {
	if !d.Named() {
		return d.Listen.String()
	}
	return d.Listen.String() + " for " + strings.Join(d.Hosts, ", ")
}
