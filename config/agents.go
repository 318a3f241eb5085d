package config

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/fairlead-net/fairlead/forward"
	nodes "github.com/fairlead-net/fairlead/node"
)

// HubNode is the name under which an agent's forwards speak of its hub.
const HubNode = "hub"

// The limits of what a hub and an agent are told of each other.
const (
	maxAgentName     = 32   // letters, which leaves room in the names of forwards
	maxAgentNames    = 1000 // host names, agents in a list
	maxAgentSessions = 1_000_000
	maxAgentForwards = 65_536
)

// A limitsTable is [agents.NAME] as it is written.
type limitsTable struct {
	Ports       string
	Hosts       Strings
	Targets     Strings
	Reach       Strings
	Bandwidth   string
	MaxSessions int
	MaxForwards int
	Expires     string
}

func (t *limitsTable) field(key string) any {
	switch key {
	case "ports":
		return &t.Ports
	case "hosts":
		return &t.Hosts
	case "targets":
		return &t.Targets
	case "reach":
		return &t.Reach
	case "bandwidth":
		return &t.Bandwidth
	case "max_sessions":
		return &t.MaxSessions
	case "max_forwards":
		return &t.MaxForwards
	case "expires":
		return &t.Expires
	}
	return nil
}

func limitsSheet(name string, t *limitsTable) sheet {
	return sheet{table: "agents", name: name, what: "agent", field: t.field, help: helpLimits, keys: []string{
		"ports", "hosts", "targets", "reach", "bandwidth", "max_sessions", "max_forwards", "expires",
	}}
}

func helpLimits(key string) string {
	switch key {
	case "":
		return Help("")
	case "ports":
		return `ports is where the agent may listen, such as "80,443,8000-8999", or "none"; left out, it is what the token said, else what [hub] says`
	case "hosts":
		return `hosts is one or several names that the agent may serve, such as ["blog.example.com", "*.home.example.com"], or "none"; left out, it is what the token said`
	case "targets":
		return `targets is one or several destinations that the hub dials for the agent, such as "10.0.0.5:5432", or "none"; left out, it is what the token said`
	case "reach":
		return `reach is one or several other agents that the agent reaches through the hub, such as ["home", "office"], or "*" or "none"; left out, it is what the token said`
	case "bandwidth":
		return Help("bandwidth")
	case "max_sessions":
		return `max_sessions is how many connections and flows the agent has open at once, a whole number from 1; leave it out for the default`
	case "max_forwards":
		return `max_forwards is how many forwards the agent has at once, a whole number from 1; leave it out for the default`
	case "expires":
		return Help("expires")
	}
	return ""
}

func (r *reader) readAgents(all *node) {
	if !r.hasTables(all, "agents") {
		return
	}
	if n := len(all.children); n > maxHubAgents {
		r.add(problem{at: all.children[maxHubAgents].at, msg: fmt.Sprintf("the file has %d agents; %d is the most", n, maxHubAgents), hint: "agents that are not named have the limits of [hub]"})
		return
	}
	if r.settings.Hub == nil {
		r.add(problem{at: all.at, table: "[agents]", msg: "this says what agents may do at this hub, and there is no hub", hint: "write [hub] above it; what this host itself lets a hub do is [agent]"})
	}
	for _, n := range all.children {
		t := limitsTable{MaxSessions: unset, MaxForwards: unset}
		s := limitsSheet(n.name, &t)
		if !n.shape.isTable() {
			r.add(s.notTable(n))
			continue
		}
		bad := r.fill(n, s)
		limits, err := t.limits(n.name)
		if declared, ok := nodeNamed(r.settings.Nodes, n.name); ok && err == nil {
			err = &forward.FieldError{Err: withHint{fmt.Errorf("node %q has this name", declared.Name), "forwards name agents and nodes alike: give one of them another name"}}
		}
		r.refuse(n, s, bad, err)
		r.settings.Agents = append(r.settings.Agents, limits)
	}
	slices.SortFunc(r.settings.Agents, func(a, b AgentLimits) int { return strings.Compare(a.Name, b.Name) })
}

// limits is what t permits an agent.
func (t limitsTable) limits(name string) (a AgentLimits, _ error) {
	c := checker{}
	a.Name = name
	c.check("", CheckAgentName(name))
	var err error
	switch {
	case t.Ports == none:
		a.NoPorts = true
	case t.Ports != "":
		a.Ports, err = parseAgentPorts(t.Ports)
		c.check("ports", err)
	}
	if a.Hosts = []string{}; !isNone(t.Hosts) {
		a.Hosts, err = parseNameList(t.Hosts, ParseHostPattern)
		c.check("hosts", err)
	}
	if a.Targets = []forward.Rule{}; !isNone(t.Targets) {
		a.Targets, err = parseRules(t.Targets, "")
		c.check("targets", err)
	}
	if a.Reach = []string{}; !isNone(t.Reach) {
		a.Reach, err = parseNameList(t.Reach, func(s string) (string, error) {
			if s == "*" {
				return s, nil
			}
			return s, CheckAgentName(s)
		})
		c.check("reach", err)
	}
	a.Bandwidth, err = ParseBandwidth(t.Bandwidth)
	c.check("bandwidth", err)
	a.MaxSessions = c.number("max_sessions", t.MaxSessions, maxAgentSessions)
	a.MaxForwards = c.number("max_forwards", t.MaxForwards, maxAgentForwards)
	a.Expires, err = parseExpires(t.Expires)
	c.check("expires", err)
	return a, c.err()
}

// none is what stands for an empty list. It takes away what a token has said.
const none = "none"

// isNone reports whether a list says that there is nothing. One that is left out says nothing.
func isNone(list Strings) bool {
	return list != nil && len(list) == 0 || len(list) == 1 && list[0] == none
}

// LimitKeys are the keys of [agents.NAME].
func LimitKeys() []string { return limitsSheet("", nil).keys }

// Limits is what an agent may as it is written on a command line or in a request: the keys of [agents.NAME].
type Limits struct {
	Ports       string  `json:"ports,omitempty"`
	Hosts       Strings `json:"hosts,omitzero"` // empty is none, as "none" is; so of the next two
	Targets     Strings `json:"targets,omitzero"`
	Reach       Strings `json:"reach,omitzero"`
	Bandwidth   string  `json:"bandwidth,omitempty"`
	MaxSessions int     `json:"max_sessions,omitempty"` // 0 is the default
	MaxForwards int     `json:"max_forwards,omitempty"` // 0 is the default
	Expires     string  `json:"expires,omitempty"`      // RFC 3339
}

// Agent is what l permits an agent of that name, "" for one that has none yet. The error is one *forward.FieldError or several
// joined, for HintLimits.
func (l Limits) Agent(name string) (AgentLimits, error) {
	t := limitsTable{Ports: l.Ports, Hosts: l.Hosts, Targets: l.Targets, Reach: l.Reach, Bandwidth: l.Bandwidth, MaxSessions: unset, MaxForwards: unset, Expires: l.Expires}
	if l.MaxSessions != 0 {
		t.MaxSessions = l.MaxSessions
	}
	if l.MaxForwards != 0 {
		t.MaxForwards = l.MaxForwards
	}
	if name == "" {
		a, err := t.limits("agent")
		a.Name = ""
		return a, err
	}
	return t.limits(name)
}

// HintLimits says what would have been right where Limits.Agent says what is wrong.
func HintLimits(err error) string { return hintOf(err, helpLimits) }

// CheckAgentName says whether an agent can be called name.
func CheckAgentName(name string) error {
	switch name {
	case "":
		return errors.New("an agent needs a name")
	case forward.Host:
		return withHint{fmt.Errorf("%q is this machine", name), "give the agent another name"}
	case HubNode:
		return withHint{fmt.Errorf("%q is what agents call their hub", name), "give the agent another name"}
	case none:
		return withHint{fmt.Errorf("%q is nobody, where agents are named", name), "give the agent another name"}
	}
	if len(name) > maxAgentName {
		return fmt.Errorf("the name of an agent is %d letters long at most, not %d", maxAgentName, len(name))
	}
	if lower := strings.ToLower(name); lower != name {
		return withHint{fmt.Errorf("%q has capital letters, and agents have small ones", clip(name, 80)), fmt.Sprintf("write %q", clip(lower, 80))}
	}
	return forward.CheckName(name)
}

func parseNameList(list Strings, parse func(string) (string, error)) ([]string, error) {
	names, err := parseList(list, "", parse)
	if err == nil && len(names) > maxAgentNames {
		err = fmt.Errorf("the list has %d names; %d is the most", len(names), maxAgentNames)
	}
	slices.Sort(names)
	return slices.Compact(names), err
}

// ParseHostPattern reads "blog.example.com", or "*.example.com" for every name below it.
func ParseHostPattern(s string) (string, error) {
	r, err := forward.ParseRule(s)
	if err == nil && (r.Host == "" || r.Host == "*" || r.Ports != (forward.Range{})) {
		err = fmt.Errorf("%q is no host name", s)
	}
	return r.Host, err
}

// checkAgentOrNode is checkNode where there may be a hub, whose agents need not be declared.
func (s Settings) checkAgentOrNode(name string) error {
	err := checkNode(name, s.Nodes)
	switch {
	case err != nil && name == HubNode:
		return withHint{fmt.Errorf("%q is the hub of an agent, and this host is no agent", name), `write [agent], after "fairlead join" has made this host one`}
	case err == nil || s.Hub == nil:
		return err
	}
	return CheckAgentName(name)
}

func hubNode() nodes.Spec { return nodes.Spec{Name: HubNode, Hub: new(nodes.Hub)} }
