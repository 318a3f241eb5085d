package hub

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/fairlead-net/fairlead/forward"
)

// Limits are what an agent may. A field that is zero says nothing: then a more general one counts, and at last the ordinary value.
// A list that is empty but not nil says: nothing at all.
type Limits struct {
	Ports     []forward.Range `json:"ports"`               // that it may have listened at here; ordinarily all from 1024 on
	Addresses []netip.Addr    `json:"addresses"`           // at which; ordinarily all
	Hosts     []string        `json:"hosts"`               // names that may lead to it: "blog.example.com", "*.example.com"; ordinarily none
	Targets   []forward.Rule  `json:"targets"`             // that the hub dials for it; ordinarily none
	Reach     []string        `json:"reach"`               // agents that it may reach, "*" for all; ordinarily none
	Bandwidth int64           `json:"bandwidth,omitempty"` // bytes a second, each way, of all that it has together; ordinarily without end
	Sessions  int             `json:"sessions,omitempty"`  // streams and flows open at once; ordinarily 10000
	Forwards  int             `json:"forwards,omitempty"`  // listeners; ordinarily 100
	Expires   time.Time       `json:"expires,omitzero"`    // when all of this ends; ordinarily never
}

// The ordinary limits.
const (
	ordinaryPorts    = 1024 // begin here: those below are for services of this host, and have to be named
	ordinarySessions = 10_000
	ordinaryForwards = 100
)

// Over is l where l says something, and base elsewhere.
func (l Limits) Over(base Limits) Limits {
	if l.Ports == nil {
		l.Ports = base.Ports
	}
	if l.Addresses == nil {
		l.Addresses = base.Addresses
	}
	if l.Hosts == nil {
		l.Hosts = base.Hosts
	}
	if l.Targets == nil {
		l.Targets = base.Targets
	}
	if l.Reach == nil {
		l.Reach = base.Reach
	}
	if l.Bandwidth == 0 {
		l.Bandwidth = base.Bandwidth
	}
	if l.Sessions == 0 {
		l.Sessions = base.Sessions
	}
	if l.Forwards == 0 {
		l.Forwards = base.Forwards
	}
	if l.Expires.IsZero() {
		l.Expires = base.Expires
	}
	return l
}

// ordinary is l with the ordinary values where it says nothing.
func (l Limits) ordinary() Limits {
	return l.Over(Limits{
		Ports: []forward.Range{{First: ordinaryPorts, Last: 65535}}, Sessions: ordinarySessions, Forwards: ordinaryForwards,
	})
}

// webPorts are those at which whoever may have a name may have it, beside the hub's own port and those that he may have as a whole.
var webPorts = []uint16{80, 443}

// mayListen says why a place is not to be had, or nothing. Port 0 is one that is yet to be picked. own is the hub's own port, 0 if that
// is not to be shared.
func (l Limits) mayListen(at forward.Door, own uint16) error {
	if at.IsUnix() || at.Ports.All || len(at.Ports.Ranges) != 1 {
		return fmt.Errorf("to listen at %s is not permitted", at)
	}
	r := at.Ports.Ranges[0]
	within := func(p forward.Range) bool { return p.First <= r.First && r.Last <= p.Last }
	for _, name := range at.Hosts {
		if !l.mayHost(name) {
			return fmt.Errorf("the name %s is not permitted; %s", name, l.hostsText())
		}
	}
	switch {
	case at.Named() && r.First == r.Last && (slices.Contains(webPorts, r.First) || own != 0 && r.First == own):
	case !r.IsZero() && !slices.ContainsFunc(l.Ports, within) || len(l.Ports) == 0:
		return fmt.Errorf("to listen at port %s is not permitted; %s", r, l.portsText())
	}
	if l.Addresses != nil && !slices.Contains(l.Addresses, at.Addr) {
		return fmt.Errorf("to listen at %s is not permitted; %s", addressText(at.Addr), l.addressesText())
	}
	return nil
}

// mayHost reports whether a name may lead to the agent.
func (l Limits) mayHost(name string) bool {
	name = strings.ToLower(strings.TrimSuffix(name, "."))
	return name != "" && slices.ContainsFunc(l.Hosts, func(h string) bool {
		if below, ok := strings.CutPrefix(h, "*"); ok {
			return h == "*" || strings.HasSuffix(name, below) && len(name) > len(below)
		}
		return h == name
	})
}

func (l Limits) mayReach(agent string) bool {
	return slices.Contains(l.Reach, agent) || slices.Contains(l.Reach, "*")
}

// expired goes by the clock on the wall.
func (l Limits) expired(now time.Time) bool {
	return !l.Expires.IsZero() && !now.Round(0).Before(l.Expires.Round(0))
}

// words are what l permits, for people.
func (l Limits) words() []string {
	w := []string{l.portsText()}
	if l.Addresses != nil {
		w = append(w, l.addressesText())
	}
	if len(l.Hosts) > 0 {
		w = append(w, "the names "+strings.Join(l.Hosts, ", "))
	}
	if len(l.Targets) > 0 {
		targets := make([]string, len(l.Targets))
		for i, t := range l.Targets {
			targets[i] = t.String()
		}
		w = append(w, "the hub dials "+strings.Join(targets, ", "))
	}
	if len(l.Reach) > 0 {
		w = append(w, "the agents "+strings.Join(l.Reach, ", "))
	}
	if l.Bandwidth > 0 {
		w = append(w, strconv.FormatInt(l.Bandwidth, 10)+" bytes a second")
	}
	w = append(w, fmt.Sprintf("%d sessions, %d forwards", l.Sessions, l.Forwards))
	if !l.Expires.IsZero() {
		w = append(w, "until "+l.Expires.Format(time.RFC3339))
	}
	for i := range w {
		w[i] = w[i][:min(len(w[i]), maxWords)]
	}
	return w
}

// maxWords bounds one of the words, in bytes.
const maxWords = 1000

func (l Limits) portsText() string {
	if len(l.Ports) == 0 {
		return "no port is permitted"
	}
	return "the ports are " + forward.Ports{Ranges: l.Ports}.String()
}

func (l Limits) hostsText() string {
	if len(l.Hosts) == 0 {
		return "no name is"
	}
	return "the names are " + strings.Join(l.Hosts, ", ")
}

func (l Limits) addressesText() string {
	if len(l.Addresses) == 0 {
		return "no address is permitted"
	}
	names := make([]string, len(l.Addresses))
	for i, a := range l.Addresses {
		names[i] = addressText(a)
	}
	return "the addresses are " + strings.Join(names, ", ")
}

func addressText(a netip.Addr) string {
	if !a.IsValid() {
		return "every address"
	}
	return a.String()
}

// Check says what is wrong with limits that somebody wrote.
func (l Limits) Check() error {
	for _, r := range l.Ports {
		if r.First == 0 || r.Last < r.First {
			return fmt.Errorf("the ports %s are no range; write it like 8000-8010", r)
		}
	}
	if l.Bandwidth < 0 || l.Sessions < 0 || l.Forwards < 0 {
		return fmt.Errorf("bandwidth, sessions and forwards are numbers from 1 on, or left out")
	}
	for _, h := range l.Hosts {
		if h != strings.ToLower(h) || strings.TrimPrefix(h, "*.") == "" || strings.ContainsAny(h, " /:") {
			return fmt.Errorf("%q is no host name; write it like blog.example.com or *.example.com", h)
		}
	}
	for _, name := range l.Reach {
		if name != "*" && CheckName(name) != nil {
			return fmt.Errorf("reach: %w", CheckName(name))
		}
	}
	return nil
}

// Equal reports whether l and m say the same.
func (l Limits) Equal(m Limits) bool {
	same := func(a, b bool) bool { return a == b }
	return slices.Equal(l.Ports, m.Ports) && same(l.Ports == nil, m.Ports == nil) &&
		slices.Equal(l.Addresses, m.Addresses) && same(l.Addresses == nil, m.Addresses == nil) &&
		slices.Equal(l.Hosts, m.Hosts) && same(l.Hosts == nil, m.Hosts == nil) &&
		slices.Equal(l.Targets, m.Targets) && same(l.Targets == nil, m.Targets == nil) &&
		slices.Equal(l.Reach, m.Reach) && same(l.Reach == nil, m.Reach == nil) &&
		l.Bandwidth == m.Bandwidth && l.Sessions == m.Sessions && l.Forwards == m.Forwards && l.Expires.Equal(m.Expires)
}
