package forward

import "slices"

// names is who has which name of one port.
type names struct {
	by  map[string]*Forward // a wildcard as it is written
	any *Forward            // one of them, which stands for all
}

// The reasons for which forwards cannot share a port although their names differ.
const (
	kernelTakesAll = `the kernel would take every client of the port; write host = "*", or carry = "relay", for who calls none of the names`
	proxiesDiffer  = "accept_proxy has to be the same for all who share a port by name: the header comes before the name"
)

// namesake is the forward that keeps f from a claim for reasons of names.
func (x *Index) namesake(d *field, f *Forward, c Claim) (other *Forward, reason string) {
	if c.Ports != PortExact {
		return nil, ""
	}
	at := portKey{d, c.Range.First}
	n, rest := x.named[at], x.exact[at]
	switch {
	case c.Host == "":
		if n == nil || rest != nil { // of two for all the others, that is the matter
			return nil, ""
		}
		other, reason = n.any, apart(f, n.any)
	case n != nil && n.by[c.Host] != nil:
		return n.by[c.Host], ""
	case n != nil:
		other, reason = n.any, apart(n.any, f)
	case rest != nil:
		other, reason = rest, apart(rest, f)
	}
	if reason == "" {
		return nil, ""
	}
	return other, reason
}

// apart is why f, which may be for who calls none of the names, and named cannot share a port, or "".
func apart(f, named *Forward) string {
	switch {
	case f.Carry != CarryRelay && f.NeedsRelay() == "":
		return kernelTakesAll
	case !slices.Equal(f.AcceptProxy, named.AcceptProxy):
		return proxiesDiffer
	}
	return ""
}

func (x *Index) enterName(at portKey, host string, f *Forward) {
	if x.named == nil {
		x.named = map[portKey]*names{}
	}
	n := x.named[at]
	if n == nil {
		n = &names{by: map[string]*Forward{}}
		x.named[at] = n
	}
	n.by[host], n.any = f, f
}

func (x *Index) removeName(at portKey, host string) {
	n := x.named[at]
	delete(n.by, host)
	for _, n.any = range n.by {
		return
	}
	delete(x.named, at)
}

// eachName offers who has the name that a client calls, the exact name before the wildcard.
func (x *Index) eachName(at portKey, p Packet, yield func(*Forward) bool) bool {
	n := x.named[at]
	if n == nil {
		return true
	}
	if !p.Called {
		return yield(n.any)
	}
	if p.Host == "" {
		return true
	}
	for _, name := range []string{p.Host, wildcardOf(p.Host)} {
		if f := n.by[name]; f != nil && !yield(f) {
			return false
		}
	}
	return true
}
