package forward

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// maxInterface is the longest name of an interface, in bytes (linux/if.h: IFNAMSIZ with the closing zero).
const maxInterface = 15

// CheckInterface says why name can name no interface, or nil. A '*' at its end stands for the rest of several names.
func CheckInterface(name string) error {
	switch plain := strings.TrimSuffix(name, "*"); {
	case plain == "":
		return fmt.Errorf("%q names no interface; write one, such as \"eth0\", or the beginning of several, such as \"ppp*\"", name)
	case len(plain) > maxInterface:
		return fmt.Errorf("the interface %q is %d bytes long; %d is the most", name, len(plain), maxInterface)
	case plain == "." || plain == ".." || strings.ContainsFunc(plain, func(r rune) bool { return r <= ' ' || r > '~' || strings.ContainsRune(`/:*"\`, r) }):
		return fmt.Errorf("%q is no name of an interface", name)
	case plain == "lo" && plain == name:
		return errors.New("lo leads nowhere but to this host")
	}
	return nil
}

// shareInterface reports whether there may be an interface that both name, each of which may end in a '*'.
func shareInterface(a, b string) bool {
	short, wild := strings.CutSuffix(a, "*")
	long, longWild := strings.CutSuffix(b, "*")
	if wild && strings.HasPrefix(long, short) {
		return true
	}
	return longWild && strings.HasPrefix(short, long)
}

// Validate reports every combination that makes no gateway, or nil. Each problem is a *FieldError (several are joined) with
// the name of the key in the [gateway] table.
func (g *Gateway) Validate() error {
	var errs []error
	bad := func(field, format string, args ...any) {
		errs = append(errs, &FieldError{Field: field, Err: fmt.Errorf(format, args...)})
	}
	sides := []struct {
		field string
		names []string
	}{{"wan", g.WAN}, {"lan", g.LAN}, {"dmz", g.DMZ}}
	for i, side := range sides {
		for at, name := range side.names {
			if err := CheckInterface(name); err != nil {
				bad(side.field, "%w", err)
				continue
			}
			if slices.Contains(side.names[:at], name) {
				bad(side.field, "%q stands in %s already; an interface is on one side", name, side.field)
			}
			for _, other := range sides[:i] {
				for _, o := range other.names {
					if name == o {
						bad(side.field, "%q stands in %s already; an interface is on one side", name, other.field)
					} else if shareInterface(name, o) {
						bad(side.field, "%q names interfaces that %q in %s does, too; an interface is on one side", name, o, other.field)
					}
				}
			}
		}
	}
	if len(g.WAN) == 0 {
		bad("wan", "a gateway needs an interface to the outside, such as wan = [\"eth0\"]")
	}
	if len(g.LAN)+len(g.DMZ) == 0 {
		bad("lan", "a gateway needs an interface to those that it is the gateway of, such as lan = [\"br0\"]")
	}
	for i, addr := range g.SNAT {
		same := func(other netip.Addr) bool { return other.Is4() == addr.Is4() }
		switch {
		case !addr.IsGlobalUnicast():
			bad("snat", "%s is no address of a host that others can answer to", addr)
		case slices.ContainsFunc(g.SNAT[:i], same):
			bad("snat", "there are two addresses of one family; what leaves has one")
		}
	}
	if g.Independent && !g.Masquerade && !g.Protect && len(g.SNAT) == 0 {
		bad("endpoint_independent", "nothing is translated and nothing is dropped, so there is nothing to be independent of; leave it out, or set masquerade or protect")
	}
	for _, l := range g.Open {
		if l.IsUnix() {
			bad("open", "%s is no port", l)
		}
	}
	return errors.Join(errs...)
}
