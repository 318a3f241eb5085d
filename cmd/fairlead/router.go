package main

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"sync"

	"github.com/fairlead-net/fairlead/config"
	"github.com/fairlead-net/fairlead/forward"
	"github.com/fairlead-net/fairlead/kernel"
	"github.com/fairlead-net/fairlead/portmap/publish"
	"github.com/fairlead-net/fairlead/relay/vhost"
)

// A router is what this host does for a network besides carrying forwards: it is the gateway of the settings, and it asks the gateways
// upstream for the ports of forwards that want it.
type router struct {
	gateway   *kernel.Gateway
	publisher *publish.Publisher // nil: nobody is asked
	others    *firewalls         // nil: the other firewalls of this host are not looked after
	certs     *vhost.Certs       // nil: there are none
	log       *slog.Logger

	seen   forward.List // by the last Carried
	wishes map[string]publish.Wish

	mu     sync.Mutex
	names  map[string][]string // by forward: those whose certificates are had by ACME
	spec   *forward.Gateway
	open   []forward.Listen // of other servers of this program
	looked bool             // whether the interfaces of spec are there has been looked at
	failed bool             // the gateway could not be made what spec says
	wrong  string           // why
	down   bool             // all has been taken away, and stays so
}

// settle makes s hold from the next Apply on.
func (r *router) settle(s config.Settings) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.spec, r.open, r.looked, r.failed = s.Gateway, alsoOpen(s), false, false
}

// alsoOpen is what of this host the WAN reaches besides forwards, and what the gateway says itself: a server of this program that
// was told to listen.
func alsoOpen(s config.Settings) []forward.Listen {
	if s.SSHD == nil {
		return nil
	}
	return s.SSHD.Listen
}

// facts is what this host can do once it is the gateway of the settings: as soon as it is one, it forwards packets.
func (r *router) facts() (kernel.Facts, error) {
	facts, err := kernel.Probe()
	r.mu.Lock()
	defer r.mu.Unlock()
	return asGateway(facts, r.spec != nil && !r.failed && !r.down), err
}

// asGateway is facts where this host is a gateway, or about to be one.
func asGateway(facts kernel.Facts, gateway bool) kernel.Facts {
	if gateway && facts.Unusable == "" {
		facts.Routes4, facts.Routes6 = true, true
	}
	return facts
}

// Carried tells everybody of all forwards. What is wrong with the gateway is no forward's fault.
func (r *router) Carried(ctx context.Context, all forward.List) {
	r.mu.Lock()
	spec, open, down, looked := r.spec, r.open, r.down, r.looked
	r.looked = true
	r.mu.Unlock()
	if spec != nil && !looked {
		for _, name := range missingInterfaces(spec) {
			r.log.Warn("an interface of the gateway is not there; it is served once it is", "interface", name)
		}
		for _, note := range strangeSNAT(spec) {
			r.log.Warn("an address of the gateway is not there", "why", note)
		}
	}
	if r.publisher != nil && r.wish(all) {
		if err := r.publisher.Apply(slices.Collect(maps.Values(r.wishes))); err != nil {
			r.log.Error("not every forward can be published", keyError, err)
		}
	}
	if r.others != nil {
		r.others.soon()
	}
	if down || r.gateway == nil {
		return
	}
	err := r.gateway.Apply(ctx, spec, open, all)
	r.mu.Lock()
	before := r.failed
	if r.failed, r.wrong = err != nil, ""; err != nil {
		r.wrong = err.Error()
	}
	r.mu.Unlock()
	if err != nil && !before {
		r.log.Error("this host is not the gateway that the file says", keyError, err)
	}
}

// wish finds what of all gateways upstream are asked for, and reports whether that is something else than before.
func (r *router) wish(all forward.List) (changed bool) {
	removed, added := r.seen.Differ(all)
	r.seen = all
	r.certify(removed, added)
	for _, f := range removed {
		if f.Publish.On {
			delete(r.wishes, f.Name)
			changed = true
		}
	}
	for _, f := range added {
		if f.Publish.On && !f.Disabled {
			r.wishes[f.Name] = publish.Wish{
				Name: f.Name, Networks: f.Listen.Networks, Ports: f.Listen.Ports.Ranges, Addr: f.Listen.Addr, External: f.Publish.Port, Random: f.Publish.Random,
				Describe: "fairlead " + f.Name,
			}
			changed = true
		}
	}
	return changed
}

// problems is why this host is not the gateway of the settings, and what keeps it from being one that works.
func (r *router) problems() []string {
	r.mu.Lock()
	spec, failed, wrong, down := r.spec, r.failed, r.wrong, r.down
	r.mu.Unlock()
	var list []string
	if failed {
		list = append(list, "this host is not the gateway that the file says: "+wrong)
	}
	if spec != nil && !down {
		list = append(list, strangeSNAT(spec)...)
	}
	return list
}

// Lost reports whether somebody took away what the gateway has in the kernel.
func (r *router) Lost() bool { return r.gateway != nil && r.gateway.Lost() }

// Clear takes the gateway away, and what is in other firewalls, for good.
func (r *router) Clear() error {
	r.mu.Lock()
	r.down = true
	r.mu.Unlock()
	if look().Unusable != "" {
		return nil
	}
	var err error
	if r.others != nil {
		err = r.others.clear()
	}
	if r.gateway != nil {
		err = errors.Join(err, r.gateway.Clear())
	}
	return err
}
