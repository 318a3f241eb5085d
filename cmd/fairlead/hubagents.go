package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/fairlead-net/fairlead/api"
	"github.com/fairlead-net/fairlead/config"
	"github.com/fairlead-net/fairlead/forward"
	"github.com/fairlead-net/fairlead/hub"
)

var _ api.Agents = (*hubDaemon)(nil)

// errHubStarts is that there is to be a hub which does not run.
func (h *hubDaemon) errNone(want *config.Hub) error {
	switch problem := h.problem(); {
	case want == nil:
		return api.ErrNoHub()
	case problem != "":
		return advise(errors.New(problem), "`fairlead status` says so when it runs")
	}
	return advise(errors.New("the hub has not started yet"), "try again in a moment")
}

// Agents is every agent that is enrolled, sorted by name.
func (h *hubDaemon) Agents() ([]api.Agent, error) {
	core, want := h.running()
	if core == nil {
		return nil, h.errNone(want)
	}
	listens := map[forward.Origin][]api.AgentListen{}
	for _, f := range h.list() {
		if f.Origin.Guest() {
			listens[f.Origin] = append(listens[f.Origin], api.AgentListen{Name: f.Name, Listen: forward.Door{Listen: f.Listen, Hosts: f.Hosts}.String()})
		}
	}
	list := []api.Agent{}
	for _, a := range core.Agents() {
		if a.State == hub.StateRevoked {
			continue
		}
		list = append(list, agentOf(a, listens[forward.Origin("agent:"+a.Name)]))
	}
	return list, nil
}

// agentOf is a as it is shown.
func agentOf(a hub.Agent, listens []api.AgentListen) api.Agent {
	out := api.Agent{
		Name: a.Name, Key: a.Key.String(), Detail: a.Why, Since: moment(a.Since), Transport: a.Transport, Version: strings.TrimPrefix(a.Program, programPrefix), Resumed: a.Resumed,
		Sessions: a.Sessions, Bytes: api.Bytes{In: a.Out, Out: a.In}, Forwards: listens, Enrolled: moment(a.Enrolled), Expires: moment(a.Limits.Expires),
		Limits: limitsOf(a.Limits),
	}
	if out.Forwards == nil {
		out.Forwards = []api.AgentListen{}
	}
	if a.Address.IsValid() {
		out.Address = a.Address.String()
	}
	if a.RTT > 0 {
		ms := float64(a.RTT.Round(10*time.Microsecond)) / float64(time.Millisecond)
		out.RTT = &ms
	}
	switch a.State {
	case hub.StateUp:
		out.State = "up"
	case hub.StateAway:
		out.State = "waiting"
	case hub.StateExpired:
		out.State = "expired"
	default:
		out.State = "away"
		if !a.LastSeen.IsZero() {
			out.Since, out.Detail = moment(a.LastSeen), ""
		}
	}
	return out
}

// limitsOf are limits as they are written.
func limitsOf(l hub.Limits) config.Limits {
	out := config.Limits{Hosts: l.Hosts, Reach: l.Reach, MaxSessions: l.Sessions, MaxForwards: l.Forwards}
	switch {
	case len(l.Ports) > 0:
		out.Ports = forward.Ports{Ranges: l.Ports}.String()
	case l.Ports != nil:
		out.Ports = "none"
	}
	for _, t := range l.Targets {
		out.Targets = append(out.Targets, t.String())
	}
	if l.Bandwidth > 0 {
		out.Bandwidth = config.FormatBandwidth(l.Bandwidth)
	}
	if !l.Expires.IsZero() {
		out.Expires = l.Expires.UTC().Format(time.RFC3339)
	}
	return out
}

// enrolled is how many agents there are.
func enrolled(core *hub.Hub) int {
	n := 0
	for _, a := range core.Agents() {
		if a.State != hub.StateRevoked {
			n++
		}
	}
	return n
}

// maxTokenLife is how long a token may be good.
const maxTokenLife = 30 * 24 * time.Hour

// Token makes a token that enrols one agent.
func (h *hubDaemon) Token(_ context.Context, r api.TokenRequest) (api.Token, error) {
	core, want := h.running()
	if core == nil {
		return api.Token{}, h.errNone(want)
	}
	limits, err := r.Limits.Agent(r.Name)
	if err != nil {
		return api.Token{}, err
	}
	if _, declared := h.nodes.Spec(r.Name); declared {
		return api.Token{}, advise(fmt.Errorf("node %q has this name", r.Name), "forwards name agents and nodes alike: give the agent another name")
	}
	if n := len(core.Tokens()) + enrolled(core); n >= want.MaxAgents {
		return api.Token{}, advise(fmt.Errorf("there are %d agents, those counted that have a token and may yet come, and %d is the most", n, want.MaxAgents),
			"`fairlead agents revoke` makes room, or max_agents below [hub]")
	}
	life := time.Duration(r.Valid) * time.Second
	if life < 0 || life > maxTokenLife {
		return api.Token{}, advise(errors.New("a token is good for a second or more, and 30 days at most"), "leave --valid out for an hour")
	}
	token, err := core.NewToken(hub.TokenOptions{Name: r.Name, Limits: hubLimits(limits), Life: life})
	if err != nil {
		return api.Token{}, err
	}
	out := api.Token{Token: config.Secret(token.String()), Hub: hubAddress(want), Name: r.Name}
	for _, info := range core.Tokens() { // the youngest is the last
		out.Expires = moment(info.Expires)
	}
	return out, nil
}

// Tokens is every token that can be used, the oldest first.
func (h *hubDaemon) Tokens() ([]api.TokenInfo, error) {
	core, want := h.running()
	if core == nil {
		return nil, h.errNone(want)
	}
	list := []api.TokenInfo{}
	for _, t := range core.Tokens() {
		list = append(list, api.TokenInfo{ID: t.ID, Name: t.Name, Made: moment(t.Made), Expires: moment(t.Expires), Limits: limitsOf(t.Limits)})
	}
	return list, nil
}

// DeleteToken makes a token worth nothing.
func (h *hubDaemon) DeleteToken(_ context.Context, id string) error {
	err := h.manage(id, (*hub.Hub).DeleteToken)
	if errors.Is(err, hub.ErrNoToken) {
		return api.ErrNoToken(id)
	}
	return err
}

// Limit changes what an agent may.
func (h *hubDaemon) Limit(_ context.Context, name string, change api.LimitsChange) (api.LimitsChanged, error) {
	out := api.LimitsChanged{Overruled: []string{}}
	asked, err := change.Limits.Agent("")
	if err != nil {
		return out, err
	}
	limits := hubLimits(asked)
	err = h.manage(name, func(core *hub.Hub, name string) error {
		return core.ChangeLimits(name, func(old hub.Limits) hub.Limits { return limits.Over(without(old, change.Reset)) })
	})
	if err != nil {
		return out, err
	}
	list, err := h.Agents()
	for _, a := range list {
		if a.Name == name {
			out.Agent = a
		}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, a := range h.agents {
		if a.Name == name {
			out.Overruled = overruled(hubLimits(a), limits, change.Reset)
		}
	}
	return out, err
}

// without is l with nothing said of some keys.
func without(l hub.Limits, keys []string) hub.Limits {
	for _, key := range keys {
		switch key {
		case "ports":
			l.Ports = nil
		case "hosts":
			l.Hosts = nil
		case "targets":
			l.Targets = nil
		case "reach":
			l.Reach = nil
		case "bandwidth":
			l.Bandwidth = 0
		case "max_sessions":
			l.Sessions = 0
		case "max_forwards":
			l.Forwards = 0
		case "expires":
			l.Expires = time.Time{}
		}
	}
	return l
}

// overruled are the keys that somebody changed, and of which the file says something else.
func overruled(file, changed hub.Limits, reset []string) []string {
	keys := []string{}
	for _, key := range config.LimitKeys() {
		others := slices.DeleteFunc(config.LimitKeys(), func(k string) bool { return k == key })
		says, want := without(file, others), without(changed, others)
		if !says.Equal(hub.Limits{}) && (slices.Contains(reset, key) || !want.Equal(hub.Limits{})) && !says.Equal(want) {
			keys = append(keys, key)
		}
	}
	return keys
}

// Kick ends what passes through an agent now.
func (h *hubDaemon) Kick(name string) error {
	return h.manage(name, (*hub.Hub).Kick)
}

// Revoke has an agent forgotten.
func (h *hubDaemon) Revoke(_ context.Context, name string) error {
	return h.manage(name, (*hub.Hub).Revoke)
}

// Rename gives an agent another name.
func (h *hubDaemon) Rename(_ context.Context, name, to string) error {
	if _, declared := h.nodes.Spec(to); declared {
		return advise(fmt.Errorf("node %q has this name", to), "forwards name agents and nodes alike: give the agent another name")
	}
	return h.manage(name, func(core *hub.Hub, name string) error { return core.Rename(name, to) })
}

func (h *hubDaemon) manage(name string, do func(core *hub.Hub, name string) error) error {
	core, want := h.running()
	if core == nil {
		return h.errNone(want)
	}
	err := do(core, name)
	if errors.Is(err, hub.ErrNoAgent) {
		return api.ErrNoAgent(name)
	}
	return err
}
