package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/fairlead-net/fairlead/config"
)

// fakeAgents is a hub that writes down what it is asked.
type fakeAgents struct {
	list  []Agent
	asked []string
	none  bool
}

func (a *fakeAgents) Agents() ([]Agent, error) {
	if a.none {
		return nil, ErrNoHub()
	}
	return a.list, nil
}

func (a *fakeAgents) Token(_ context.Context, r TokenRequest) (Token, error) {
	limits, err := r.Limits.Agent(r.Name)
	if err != nil {
		return Token{}, err
	}
	expires := time.Unix(int64(r.Valid), 0).UTC()
	return Token{Token: "fl1-secret", Hub: "hub.example.com:443", Name: limits.Name, Expires: &expires}, nil
}

func (a *fakeAgents) do(what, name string) error {
	if !slices.ContainsFunc(a.list, func(one Agent) bool { return one.Name == name }) {
		return ErrNoAgent(name)
	}
	a.asked = append(a.asked, what+" "+name)
	return nil
}

func (a *fakeAgents) Kick(name string) error                      { return a.do("kick", name) }
func (a *fakeAgents) Revoke(_ context.Context, name string) error { return a.do("revoke", name) }
func (a *fakeAgents) Rename(_ context.Context, name, to string) error {
	return a.do("rename "+to, name)
}

func (a *fakeAgents) Limit(_ context.Context, name string, change LimitsChange) (LimitsChanged, error) {
	err := a.do(fmt.Sprintf("limit %+v %v", change.Limits, change.Reset), name)
	return LimitsChanged{Agent: Agent{Name: name, Forwards: []AgentListen{}, Limits: change.Limits}, Overruled: []string{"ports"}}, err
}

func (a *fakeAgents) Tokens() ([]TokenInfo, error) {
	return []TokenInfo{{ID: "0a", Name: "home", Limits: config.Limits{Ports: "80"}}}, nil
}

func (a *fakeAgents) DeleteToken(_ context.Context, id string) error {
	if id != "0a" {
		return ErrNoToken(id)
	}
	return nil
}

func TestTokens(t *testing.T) {
	c := NewClient(serve(t, Options{Table: &fakeTable{}, Agents: &fakeAgents{}}))
	defer c.Close()
	if list, err := c.Tokens(t.Context()); err != nil || len(list) != 1 || list[0].ID != "0a" || list[0].Limits.Ports != "80" {
		t.Errorf("%+v, %v", list, err)
	}
	if err := c.DeleteToken(t.Context(), "0a"); err != nil {
		t.Error(err)
	}
	var refused *Error
	if err := c.DeleteToken(t.Context(), "0b"); !errors.As(err, &refused) || refused.Code != CodeNotFound || refused.Hint == "" {
		t.Error(err)
	}
}

// TestLimit: what is left out of a change is left out on the way, and an empty list is none.
func TestLimit(t *testing.T) {
	hub := &fakeAgents{list: []Agent{{Name: "home"}}}
	c := NewClient(serve(t, Options{Table: &fakeTable{}, Agents: hub}))
	defer c.Close()
	change := LimitsChange{Limits: config.Limits{Ports: "80", Targets: config.Strings{}, Reach: config.Strings{"none"}}, Reset: []string{"expires"}}
	got, err := c.Limit(t.Context(), "home", change)
	if err != nil || got.Agent.Name != "home" || !slices.Equal(got.Overruled, []string{"ports"}) || !reflect.DeepEqual(got.Agent.Limits, change.Limits) {
		t.Errorf("%+v, %v", got, err)
	}
	if want := []string{fmt.Sprintf("limit %+v [expires] home", change.Limits)}; !slices.Equal(hub.asked, want) {
		t.Errorf("%q, want %q", hub.asked, want)
	}
	var refused *Error
	for _, wrong := range []LimitsChange{{Limits: config.Limits{Ports: "x"}}, {Reset: []string{"name"}}} {
		if _, err := c.Limit(t.Context(), "home", wrong); !errors.As(err, &refused) || refused.Code != CodeInvalid || refused.Hint == "" {
			t.Errorf("%+v: %v", wrong, err)
		}
	}
	if _, err := c.Limit(t.Context(), "nobody", LimitsChange{}); !errors.As(err, &refused) || refused.Code != CodeNotFound {
		t.Error(err)
	}
}

func TestAgents(t *testing.T) {
	since, rtt := time.Unix(1_800_000_000, 0).UTC(), 12.5
	hub := &fakeAgents{list: []Agent{
		{
			Name: "home", Key: "k", State: "up", Since: &since, Transport: "quic", Address: "198.51.100.7:40000", RTT: &rtt, Version: "1.2.3", Resumed: 2, Sessions: 3,
			Bytes: Bytes{4, 5}, Forwards: []AgentListen{{"agent-home-80", "tcp/80"}}, Enrolled: &since, Expires: &since,
			Limits: config.Limits{Ports: "80", Reach: config.Strings{"a", "b"}, MaxForwards: 5},
		},
		{Name: "odd.name", State: "away", Forwards: []AgentListen{}},
	}}
	c := NewClient(serve(t, Options{Table: &fakeTable{}, Agents: hub}))
	defer c.Close()
	if list, err := c.Agents(t.Context()); err != nil || !reflect.DeepEqual(list, hub.list) {
		t.Errorf("%+v, %v", list, err)
	}
	got, err := c.Token(t.Context(), TokenRequest{Name: "shop", Valid: 60, Limits: config.Limits{Ports: "none"}})
	if err != nil || got.Token != "fl1-secret" || got.Name != "shop" || got.Expires.Unix() != 60 {
		t.Errorf("%+v, %v", got, err)
	}
	var refused *Error
	if _, err := c.Token(t.Context(), TokenRequest{Limits: config.Limits{Ports: "x"}}); !errors.As(err, &refused) || refused.Code != CodeInvalid {
		t.Error(err)
	}
	for _, err := range []error{c.Kick(t.Context(), "home"), c.Rename(t.Context(), "home", "house"), c.Revoke(t.Context(), "odd.name")} {
		if err != nil {
			t.Error(err)
		}
	}
	if want := []string{"kick home", "rename house home", "revoke odd.name"}; !slices.Equal(hub.asked, want) {
		t.Errorf("%q", hub.asked)
	}
	for _, err := range []error{c.Kick(t.Context(), "nobody"), c.Revoke(t.Context(), "a/b"), c.Rename(t.Context(), "", "x")} {
		if !errors.As(err, &refused) || refused.Code != CodeNotFound {
			t.Error(err)
		}
	}
	hub.none = true
	if _, err := c.Agents(t.Context()); !errors.As(err, &refused) || refused.Code != CodeInvalid || refused.Hint == "" {
		t.Error(err)
	}
}

// TestNoAgents: a daemon that cannot be a hub says so.
func TestNoAgents(t *testing.T) {
	c := NewClient(serve(t, Options{Table: &fakeTable{}}))
	defer c.Close()
	var refused *Error
	for _, err := range []error{c.Kick(t.Context(), "a"), c.do(t.Context(), http.MethodGet, "/v1/agents", nil, nil, nil)} {
		if !errors.As(err, &refused) || refused.Code != CodeInvalid {
			t.Error(err)
		}
	}
}
