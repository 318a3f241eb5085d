package igd

import (
	"context"
	"crypto/rand"
	"maps"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/fairlead-net/fairlead/portmap/upnp"
)

// Bounds of subscriptions. UDA 1.1, section 4.1.2, wants them to last 1800 s at least.
const (
	minSubscription  = 1800 * time.Second
	maxSubscription  = 24 * time.Hour
	maxSubscriptions = 256
	maxClientEvents  = 16
	maxDeliveries    = 16 // under way at once
	maxFailures      = 3  // in a row, after which a subscriber is gone
	eventGap         = 200 * time.Millisecond
	eventPoll        = 5 * time.Second // for what ends by itself, as leases do
)

// A subscription is one of somebody who wants to be told when a service changes. There is no queue: what is behind gets the values of
// now when it is its turn, and one delivery at a time.
type subscription struct {
	door     *door
	service  *service
	client   netip.Addr
	callback string

	// Guarded by events.mu.
	id       string
	expires  time.Time
	seq      uint32
	sent     map[string]string // values, at the last delivery; nil: there was none yet
	at       time.Time         // of the last delivery
	busy     bool              // a delivery is under way
	ready    bool              // the answer to the subscription has been sent
	failures int
}

// events are all subscriptions.
type events struct {
	server  *Server
	touched chan struct{} // something may have changed

	mu      sync.Mutex
	subs    map[string]*subscription // by their id
	changes uint32                   // SystemUpdateID
}

func (e *events) init(s *Server) {
	e.server, e.touched, e.subs = s, make(chan struct{}, 1), map[string]*subscription{}
}

// touch says that mappings may have changed.
func (e *events) touch() {
	e.mu.Lock()
	e.changes++
	idle := len(e.subs) == 0
	e.mu.Unlock()
	if !idle {
		e.wake()
	}
}

// count is how often mappings have changed.
func (e *events) count() uint32 {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.changes
}

func (e *events) wake() {
	select {
	case e.touched <- struct{}{}:
	default:
	}
}

// run delivers until ctx ends, and waits for what is under way.
func (e *events) run(ctx context.Context) {
	var wg sync.WaitGroup
	defer wg.Wait()
	slots := make(chan struct{}, maxDeliveries)
	poll := time.NewTicker(eventPoll)
	defer poll.Stop()
	changed := e.server.Desk.Changed()
	var again <-chan time.Time // there is somebody whose time has not come
	var last time.Time         // that all were looked at, which takes the longer the more mappings there are
	for {
		select {
		case <-ctx.Done():
			return
		case <-changed:
			changed = e.server.Desk.Changed()
			e.mu.Lock()
			e.changes++
			e.mu.Unlock()
		case <-e.touched:
			if wait := eventGap - time.Since(last); wait > 0 {
				if again == nil {
					again = time.After(wait)
				}
				continue
			}
		case <-poll.C:
		case <-again:
		}
		again, last = nil, time.Now()
		if e.round(ctx, &wg, slots) {
			again = time.After(eventGap)
		}
	}
}

// round starts the deliveries that are due, and reports whether there are some left for later.
func (e *events) round(ctx context.Context, wg *sync.WaitGroup, slots chan struct{}) (later bool) {
	now := time.Now()
	e.mu.Lock()
	subs := slices.Collect(maps.Values(e.subs))
	e.mu.Unlock()
	for _, sub := range subs {
		values := e.values(sub)
		e.mu.Lock()
		due := sub.ready && !sub.busy && now.Before(sub.expires) && !maps.Equal(values, sub.sent)
		switch {
		case !now.Before(sub.expires):
			delete(e.subs, sub.id)
		case due && now.Sub(sub.at) < eventGap && sub.sent != nil:
			later, due = true, false
		}
		if due {
			select {
			case slots <- struct{}{}:
				changed := difference(values, sub.sent)
				n := sub.next(values, now)
				wg.Go(func() {
					err := sub.deliver(ctx, n, changed)
					<-slots
					e.delivered(sub, err)
				})
			default:
				later = true
			}
		}
		e.mu.Unlock()
	}
	return later
}

// next takes the number of the next event (UDA 1.1, section 4.3.1: the first is 0, and after the last comes 1).
func (sub *subscription) next(values map[string]string, now time.Time) uint32 {
	n := sub.seq
	if sub.seq++; sub.seq == 0 {
		sub.seq = 1
	}
	sub.sent, sub.at, sub.busy = values, now, true
	return n
}

func (e *events) delivered(sub *subscription, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	sub.busy = false
	if err == nil {
		sub.failures = 0
	} else if sub.failures++; sub.failures >= maxFailures {
		delete(e.subs, sub.id)
		e.server.Log.Debug("UPnP: a subscriber is gone", keyClient, sub.client, keyError, err)
	}
	e.wake()
}

// values are those of the variables that a service gives notice of, as its subscriber sees them.
func (e *events) values(sub *subscription) map[string]string {
	s := e.server
	switch sub.service.short {
	case "ip":
		external := ""
		if addr, _ := s.Desk.External(); addr.Is4() && !addr.IsUnspecified() {
			external = addr.String()
		}
		v := map[string]string{
			"PossibleConnectionTypes": "IP_Routed", "ConnectionStatus": connected, "ExternalIPAddress": external,
			"PortMappingNumberOfEntries": decimal(len(s.visible(sub.client))),
		}
		if sub.service.kind.Version >= 2 {
			v["SystemUpdateID"] = decimal(e.count())
		}
		return v
	case "link":
		return map[string]string{"PhysicalLinkStatus": "Up"}
	case "route":
		return map[string]string{"DefaultConnectionService": s.defaultConnection(sub.door.device)}
	}
	return map[string]string{"FirewallEnabled": "1", "InboundPinholeAllowed": "1"}
}

// difference is what is new, sorted.
func difference(values, sent map[string]string) (changed upnp.Args) {
	for _, name := range slices.Sorted(maps.Keys(values)) {
		if old, ok := sent[name]; !ok || old != values[name] {
			changed = append(changed, upnp.Arg{Name: name, Value: values[name]})
		}
	}
	return changed
}

// subscription answers SUBSCRIBE and UNSUBSCRIBE (UDA 1.1, section 4.1).
func (d *door) subscription(w http.ResponseWriter, r *http.Request, client netip.Addr, s *service) {
	id, callback, kind := r.Header.Get("SID"), r.Header.Get("CALLBACK"), r.Header.Get("NT")
	switch {
	case id != "" && (callback != "" || kind != ""):
		refuse(w, http.StatusBadRequest)
		return
	case id == "" && (r.Method != "SUBSCRIBE" || kind != "upnp:event"):
		refuse(w, http.StatusPreconditionFailed)
		return
	case r.Method == "UNSUBSCRIBE":
		refuse(w, d.events.end(id, client, s))
		return
	}
	lasts := duration(r.Header.Get("TIMEOUT"))
	sub, status := d.events.renew(id, client, s, lasts)
	if id == "" {
		to, ok := caller(callback, client)
		if !ok {
			refuse(w, http.StatusPreconditionFailed)
			return
		}
		sub, status = d.events.begin(&subscription{door: d, service: s, client: client, callback: to}, lasts)
	}
	if status != http.StatusOK {
		refuse(w, status)
		return
	}
	h := w.Header()
	h["SID"] = []string{sub.id}
	h["TIMEOUT"] = []string{"Second-" + strconv.Itoa(int(lasts/time.Second))}
	refuse(w, http.StatusOK) // which has no body, either
	_ = http.NewResponseController(w).Flush()
	d.events.mu.Lock()
	sub.ready = true // the first event comes after the answer
	d.events.mu.Unlock()
	d.events.wake()
}

func duration(timeout string) time.Duration {
	if n, ok := strings.CutPrefix(strings.ToLower(strings.TrimSpace(timeout)), "second-"); ok {
		if n == "infinite" {
			return maxSubscription
		}
		if seconds, err := strconv.ParseUint(n, 10, 32); err == nil {
			return min(max(time.Duration(seconds)*time.Second, minSubscription), maxSubscription)
		}
	}
	return minSubscription
}

func (e *events) begin(sub *subscription, lasts time.Duration) (*subscription, int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	of, now := 0, time.Now()
	for id, other := range e.subs {
		switch {
		case !now.Before(other.expires):
			delete(e.subs, id)
		case other.client == sub.client:
			of++
		}
	}
	if len(e.subs) >= maxSubscriptions || of >= maxClientEvents {
		return nil, http.StatusServiceUnavailable
	}
	sub.id, sub.expires = "uuid:"+newUUID(), now.Add(lasts)
	e.subs[sub.id] = sub
	return sub, http.StatusOK
}

func (e *events) renew(id string, client netip.Addr, s *service, lasts time.Duration) (*subscription, int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	sub := e.subs[id]
	if sub == nil || sub.client != client || sub.service != s || !time.Now().Before(sub.expires) {
		return nil, http.StatusPreconditionFailed
	}
	sub.expires = time.Now().Add(lasts)
	return sub, http.StatusOK
}

func (e *events) end(id string, client netip.Addr, s *service) int {
	e.mu.Lock()
	defer e.mu.Unlock()
	sub := e.subs[id]
	if sub == nil || sub.client != client || sub.service != s {
		return http.StatusPreconditionFailed
	}
	delete(e.subs, id)
	return http.StatusOK
}

// newUUID is a random one (RFC 9562, version 4).
func newUUID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	return formatUUID(b, 4)
}
