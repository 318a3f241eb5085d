package main

import (
	"slices"

	"github.com/fairlead-net/fairlead/forward"
	"github.com/fairlead-net/fairlead/relay"
	"github.com/fairlead-net/fairlead/relay/vhost"
)

// sites makes the sites of forwards with names.
func sites(k vhost.Keepers) relay.Sites {
	return func(f *forward.Forward) (*vhost.Site, error) { return vhost.NewSite(f, k) }
}

// certify has certificates for the names of all forwards that want them by ACME.
func (r *router) certify(removed, added []*forward.Forward) {
	if r.certs == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	changed := false
	for _, f := range removed {
		if r.names[f.Name] != nil {
			delete(r.names, f.Name)
			changed = true
		}
	}
	for _, f := range added {
		if f.Site.TLS == forward.TLSACME && !f.Disabled {
			if r.names == nil {
				r.names = map[string][]string{}
			}
			r.names[f.Name] = f.Hosts
			changed = true
		}
	}
	if !changed {
		return
	}
	var all []string
	for _, names := range r.names {
		all = append(all, names...)
	}
	slices.Sort(all)
	r.certs.Want(slices.Compact(all))
}

// certificateNote is what is wrong with the certificates of a forward, or "".
func (r *router) certificateNote(name string) string {
	if r.certs == nil {
		return ""
	}
	r.mu.Lock()
	names := r.names[name]
	r.mu.Unlock()
	return r.certs.Note(names)
}
