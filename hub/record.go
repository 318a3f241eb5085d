package hub

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/fairlead-net/fairlead/forward"
	"github.com/fairlead-net/fairlead/tunnel"
)

// A Record is what is kept of an agent.
type Record struct {
	Key      tunnel.Key
	Name     string
	Enrolled time.Time
	LastSeen time.Time // zero: never
	Program  string    // and version, as it says
	Limits   Limits    // as its token said
	Revoked  time.Time // zero: it is not

	token  []byte  // the hash of the one it enrolled by
	claims []claim // the places that are its own
}

// A claim is a place that an agent listens at, or had when it was last seen. No other agent gets it meanwhile.
type claim struct {
	Network forward.Networks `json:"network"`
	Addr    netip.Addr       `json:"addr"`
	Port    uint16           `json:"port"`
	Picked  bool             `json:"picked,omitempty"` // by the hub; the agent did not name it
	Hosts   []string         `json:"hosts,omitempty"`  // whom its clients call; none: all clients of the port
}

func claimOf(d forward.Door, picked bool) claim {
	return claim{d.Networks, d.Addr, firstPort(d.Listen), picked, d.Hosts}
}

// door is the place, for people and to be asked for again.
func (c claim) door() forward.Door {
	ports := forward.Ports{Ranges: []forward.Range{{First: c.Port, Last: c.Port}}}
	return forward.Door{Listen: forward.Listen{Networks: c.Network, Addr: c.Addr, Ports: ports}, Hosts: c.Hosts}
}

// overlaps reports whether clients of one would be clients of the other, in part or as a whole. A name and a wildcard that it falls under
// are two: the exact name has its clients.
func (c claim) overlaps(d claim) bool {
	all := func(a netip.Addr) bool { return !a.IsValid() || a.IsUnspecified() }
	return c.Network&d.Network != 0 && c.Port == d.Port && (c.Addr == d.Addr || all(c.Addr) || all(d.Addr)) && c.door().SameHosts(d.door())
}

func (c claim) samePlace(d claim) bool {
	return c.Network == d.Network && c.Port == d.Port && c.Addr == d.Addr && slices.Equal(c.Hosts, d.Hosts)
}

func firstPort(l forward.Listen) uint16 {
	if len(l.Ports.Ranges) == 0 {
		return 0
	}
	return l.Ports.Ranges[0].First
}

// storedRecord is a Record in the store. The key is the key.
type storedRecord struct {
	Name     string    `json:"name"`
	Enrolled time.Time `json:"enrolled"`
	LastSeen time.Time `json:"last_seen,omitzero"`
	Program  string    `json:"program,omitempty"`
	Limits   Limits    `json:"limits"`
	Revoked  time.Time `json:"revoked,omitzero"`
	Token    []byte    `json:"token,omitempty"`
	Claims   []claim   `json:"claims,omitempty"`
}

func (r *Record) encode() ([]byte, error) {
	return json.Marshal(storedRecord{r.Name, r.Enrolled, r.LastSeen, r.Program, r.Limits, r.Revoked, r.token, r.claims})
}

func decodeRecord(key string, value []byte) (*Record, error) {
	k, err := tunnel.ParseKey(key)
	if err != nil {
		return nil, err
	}
	var s storedRecord
	if err := json.Unmarshal(value, &s); err != nil {
		return nil, fmt.Errorf("what is kept of agent %s cannot be read: %w", key, err)
	}
	return &Record{k, s.Name, s.Enrolled, s.LastSeen, s.Program, s.Limits, s.Revoked, s.Token, s.Claims}, nil
}

// A TokenInfo is a join token that was made and not yet used.
type TokenInfo struct {
	ID      string
	Name    string // of the agent that enrols by it; "": the one that it asks for
	Limits  Limits
	Made    time.Time
	Expires time.Time

	hash []byte
}

type storedToken struct {
	Name    string    `json:"name,omitempty"`
	Limits  Limits    `json:"limits"`
	Made    time.Time `json:"made"`
	Expires time.Time `json:"expires"`
	Hash    []byte    `json:"hash"`
}

func (i *TokenInfo) encode() ([]byte, error) {
	return json.Marshal(storedToken{i.Name, i.Limits, i.Made, i.Expires, i.hash})
}

func decodeToken(id string, value []byte) (*TokenInfo, error) {
	var s storedToken
	if err := json.Unmarshal(value, &s); err != nil {
		return nil, fmt.Errorf("what is kept of join token %s cannot be read: %w", id, err)
	}
	return &TokenInfo{id, s.Name, s.Limits, s.Made, s.Expires, s.Hash}, nil
}

// CheckName says what is wrong with the name of an agent. It is the name of a node, and part of names of forwards.
func CheckName(name string) error {
	switch {
	case name == "" || len(name) > maxName:
		return fmt.Errorf("the name of an agent has 1 to %d letters, not %d", maxName, len(name))
	case name != agentName(name):
		return fmt.Errorf("%q is no name of an agent; it has small letters, digits, '-', '_' and '.', and begins with a letter or digit", name)
	case name == forward.Host || name == "hub" || name == "none":
		return fmt.Errorf("%q means something else where agents are named", name)
	}
	return nil
}

const maxName = 32 // leaves room for the rest in names of forwards (forward.MaxNameLen)

// agentName makes a name of what somebody calls himself.
func agentName(s string) string {
	s = strings.Map(func(r rune) rune {
		switch {
		case 'a' <= r && r <= 'z', '0' <= r && r <= '9', r == '-', r == '_', r == '.':
			return r
		case 'A' <= r && r <= 'Z':
			return r + 'a' - 'A'
		}
		return '-'
	}, s[:min(len(s), 4*maxName)])
	s = strings.TrimLeft(s, "-_.")
	return s[:min(len(s), maxName)]
}
