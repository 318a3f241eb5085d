package api

import (
	"strings"
	"time"

	"github.com/fairlead-net/fairlead/forward"
	"github.com/fairlead-net/fairlead/table"
)

// Forward is one forward as GET /v1/status and `fairlead status --json` show it.
type Forward struct {
	Name        string      `json:"name"`
	Origin      string      `json:"origin"`
	Listen      string      `json:"listen"`
	To          []string    `json:"to"`
	At          string      `json:"at"`
	Via         string      `json:"via"`
	Carried     string      `json:"carried"` // "kernel", "relay", or "" while nothing carries it
	Why         string      `json:"why"`
	State       string      `json:"state"` // "up", "waiting", "failed" or "off"
	Detail      string      `json:"detail"`
	Connections Connections `json:"connections"`
	Bytes       Bytes       `json:"bytes"`
	Since       *time.Time  `json:"since"`               // when it came into this state; null: not known
	Expires     *time.Time  `json:"expires"`             // null: never
	Targets     []Target    `json:"targets,omitempty"`   // where the relay picks one of several, or checks the only one
	Published   *Published  `json:"published,omitempty"` // of a forward that gateways upstream are asked for
}

// Target is how one target of a forward is doing.
type Target struct {
	Target string     `json:"target"` // as in to
	State  string     `json:"state"`  // "unknown", "up", "failing", "down" or "draining"
	Open   int        `json:"open"`   // sessions
	Since  *time.Time `json:"since"`  // when it came into this state; null: not known
	Why    string     `json:"why"`    // why it is failing or down, or ""
}

// Connections counts sessions. Total and Refused never go backwards while the forward exists.
type Connections struct {
	Open    int    `json:"open"`
	Total   uint64 `json:"total"`
	Refused uint64 `json:"refused"`
}

// Bytes counts payload: In from clients to the target, Out from the target to clients.
type Bytes struct {
	In  uint64 `json:"in"`
	Out uint64 `json:"out"`
}

// Session is one live connection or UDP flow as GET /v1/sessions shows it.
type Session struct {
	ID      string     `json:"id"`
	Forward string     `json:"forward"`
	Network string     `json:"network"`
	Client  string     `json:"client"`
	Target  string     `json:"target"`
	Carried string     `json:"carried"`
	Since   *time.Time `json:"since"` // null: not known
	Bytes   Bytes      `json:"bytes"`
}

// Lease is a forward that a program of the LAN asked for, as GET /v1/leases and `fairlead leases --json` show it.
type Lease struct {
	Name        string      `json:"name"`
	Client      string      `json:"client"`      // IP address of who asked
	MAC         string      `json:"mac"`         // of the client; "" is not known
	Hostname    string      `json:"hostname"`    // of the client; "" is not known
	Description string      `json:"description"` // what the client says that it is for; any printable text
	Protocol    string      `json:"protocol"`    // by which it was asked for: "upnp", "natpmp" or "pcp"
	Network     string      `json:"network"`     // "tcp" or "udp"
	Internal    string      `json:"internal"`    // IP address and port in the LAN
	External    string      `json:"external"`    // IP address and port where it is reached; of a pinhole the same as internal
	From        []string    `json:"from"`        // who may come in; [] is everybody
	Expires     *time.Time  `json:"expires"`     // null: never
	Remaining   *int        `json:"remaining"`   // seconds until then; null: for ever
	State       string      `json:"state"`       // as of a forward; or "asking": it waits to be approved; or "disabled" by its client
	Detail      string      `json:"detail"`
	Connections Connections `json:"connections"`
	Bytes       Bytes       `json:"bytes"`
}

// Judged is the answer to who approves or denies.
type Judged struct {
	Leases  []string `json:"leases"`            // names of those that changed
	Unknown bool     `json:"unknown,omitempty"` // nothing is known of who has that IP address; the verdict is of the address
}

// Verdict is what the operator said of a device of the LAN and is remembered, as GET /v1/verdicts and `fairlead leases verdicts
// --json` show it.
type Verdict struct {
	Device   string    `json:"device"`  // hardware address, or IP address where none was known
	Network  string    `json:"network"` // "tcp" or "udp", with port; "": all that the device asks for
	Port     int       `json:"port"`    // of the device; 0: all
	Verdict  string    `json:"verdict"` // "approved" or "denied"
	Since    time.Time `json:"since"`
	Hostname string    `json:"hostname"` // of the device, where it has a lease; "" is not known
}

// Woken is one network card that magic packets were sent to, as POST /v1/forwards/NAME/wake and `fairlead wake --json` show
// it. Whether its host woke is not known.
type Woken struct {
	MAC       string        `json:"mac"`
	Addresses []string      `json:"addresses"` // where its host is known to be
	Packets   []MagicPacket `json:"packets"`
}

// MagicPacket is one copy of the packet.
type MagicPacket struct {
	Interface string `json:"interface"` // "": the one that the routes lead to
	To        string `json:"to"`        // IP address and port, or the MAC address that a bare Ethernet frame went to
	Error     string `json:"error,omitempty"`
}

// ApplyRequest is the body of POST /v1/apply.
type ApplyRequest struct {
	File    string `json:"file"`    // what to call the text in errors
	Text    string `json:"text"`    // the whole of fairlead.toml
	Confirm int    `json:"confirm"` // seconds to wait for POST /v1/confirm before going back; 0: none
}

// Applied is the answer to POST /v1/apply.
type Applied struct {
	Added    []string   `json:"added"`
	Changed  []string   `json:"changed"`
	Removed  []string   `json:"removed"`
	Kept     int        `json:"kept"`
	Settings bool       `json:"settings"` // nodes, users or the SSH server are others than before
	Until    *time.Time `json:"until"`    // when it goes back unless confirmed; null: it stays
}

// Version is the answer to GET /v1/version.
type Version struct {
	Version string `json:"version"`
	PID     int    `json:"pid"`
	File    string `json:"file"` // what the daemon was started with and reads again on SIGHUP; "" is none

	Started time.Time `json:"started"`
}

// ForwardOf is s as it goes over the wire.
func ForwardOf(s table.Status) Forward {
	f := s.Forward
	out := Forward{
		Name: f.Name, Origin: string(f.Origin), Listen: f.Listen.String(), To: make([]string, len(f.To)),
		At: f.ListensAt(), Via: f.DialsFrom(),
		Why: s.Why, State: s.State.String(), Detail: s.Detail,
		Connections: Connections{s.Stats.Open, s.Stats.Total, s.Stats.Refused},
		Bytes:       Bytes{s.Stats.BytesIn, s.Stats.BytesOut},
		Since:       timeOf(s.Since), Expires: timeOf(f.Expires),
	}
	for i, t := range f.To {
		out.To[i] = t.String()
	}
	for _, t := range s.Stats.Targets {
		out.Targets = append(out.Targets, targetOf(t))
	}
	if s.Carried != forward.CarryAuto {
		out.Carried = s.Carried.String()
	}
	if out.Detail == "" {
		out.Detail = s.Stats.Note
	}
	return out
}

// LeaseOf is a lease as it goes over the wire; s must be one.
func LeaseOf(s table.Status, now time.Time) Lease {
	f, l := s.Forward, s.Forward.Lease
	_, protocol, _ := strings.Cut(string(f.Origin), ":")
	_, external, _ := strings.Cut(f.Listen.String(), "/")
	out := Lease{
		Name: f.Name, Client: l.Client.String(), MAC: l.MAC, Hostname: l.Hostname, Description: l.Description,
		Protocol: protocol, Network: f.Listen.Networks.String(), Internal: f.To[0].String(), External: external, From: []string{},
		State: s.State.String(), Detail: s.Detail, Expires: timeOf(f.Expires),
		Connections: Connections{s.Stats.Open, s.Stats.Total, s.Stats.Refused}, Bytes: Bytes{s.Stats.BytesIn, s.Stats.BytesOut},
	}
	for _, p := range f.From {
		out.From = append(out.From, p.String())
	}
	switch {
	case l.Asking:
		out.State, out.Detail = "asking", "`fairlead leases approve "+f.Name+"` lets it in"
	case f.Disabled:
		out.State, out.Detail = "disabled", "its client wants it so for now"
	}
	if !f.Expires.IsZero() {
		left := max(int(f.Expires.Sub(now).Round(time.Second)/time.Second), 0)
		out.Remaining = &left
	}
	return out
}

// targetOf is t as it goes over the wire. What matters of a target that is drained is that it is.
func targetOf(t forward.TargetStats) Target {
	out := Target{Target: t.Target, State: t.State, Open: t.Open, Since: timeOf(t.Since), Why: t.Why}
	if t.Draining {
		out.State, out.Since = "draining", nil
	}
	return out
}

// SessionOf is s as it goes over the wire.
func SessionOf(s forward.Session) Session {
	return Session{
		ID: s.ID, Forward: s.Forward, Network: s.Network.String(), Client: s.Client, Target: s.Target,
		Carried: s.Carried.String(), Since: timeOf(s.Since), Bytes: Bytes{s.BytesIn, s.BytesOut},
	}
}

// timeOf is t in UTC to the second, or nil for the zero time.
func timeOf(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC().Truncate(time.Second)
	return &t
}

func appliedOf(c table.Change, until time.Time) Applied {
	return Applied{
		Added: list(c.Added), Changed: list(c.Changed), Removed: list(c.Removed), Kept: c.Kept, Settings: c.Settings, Until: timeOf(until),
	}
}

// list makes an empty list of nil: JSON readers expect [] and not null.
func list(names []string) []string {
	if names == nil {
		return []string{}
	}
	return names
}
