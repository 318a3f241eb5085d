package api

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/fairlead-net/fairlead/config"
)

// Agent is one agent of this host's hub, as GET /v1/agents and `fairlead agents --json` show it.
type Agent struct {
	Name      string        `json:"name"`
	Key       string        `json:"key"`   // its public key, in base64url
	State     string        `json:"state"` // "up"; "waiting": it is away, and its connections wait for it; "away"; "expired": it may not come any more
	Detail    string        `json:"detail"`
	Since     *time.Time    `json:"since"`     // of the state; null: not known
	Transport string        `json:"transport"` // "quic", "tls", "wss", or "" while there is none
	Address   string        `json:"address"`   // whom its packets come from, IP address and port, or ""
	RTT       *float64      `json:"rtt_ms"`    // null: not known
	Version   string        `json:"version"`   // of its program, or ""
	Resumed   int           `json:"resumed"`   // how often a connection was lost and nothing else was
	Sessions  int           `json:"sessions"`  // connections and flows that are open
	Bytes     Bytes         `json:"bytes"`     // of these and others since it came: in to the agent, out from it
	Forwards  []AgentListen `json:"forwards"`  // what this host listens for it
	Enrolled  *time.Time    `json:"enrolled"`
	Expires   *time.Time    `json:"expires"` // null: never
	Limits    config.Limits `json:"limits"`
}

// AgentListen is a forward that an agent asked for.
type AgentListen struct {
	Name   string `json:"name"` // of the forward
	Listen string `json:"listen"`
}

// TokenRequest is the body of POST /v1/agents.
type TokenRequest struct {
	Name   string        `json:"name,omitempty"`  // of the agent; "": the one that it asks for, or that the hub finds
	Valid  int           `json:"valid,omitempty"` // seconds in which the token has to be used; 0: the hub's default
	Limits config.Limits `json:"limits"`
}

// Token is the answer: what enrols one agent, once.
type Token struct {
	Token   config.Secret `json:"token"`
	Hub     string        `json:"hub"` // host:port that the agent calls
	Name    string        `json:"name"`
	Expires *time.Time    `json:"expires"` // of the token
}

// TokenInfo is a token that nobody has used yet, as GET /v1/tokens shows it. The token itself is shown once, when it is made.
type TokenInfo struct {
	ID      string        `json:"id"`
	Name    string        `json:"name"` // of the agent; "": the one that it asks for
	Made    *time.Time    `json:"made"`
	Expires *time.Time    `json:"expires"` // of the token
	Limits  config.Limits `json:"limits"`
}

// LimitsChange is the body of POST /v1/agents/NAME/limits: what the agent may, other than before. What is left out stays.
type LimitsChange struct {
	Limits config.Limits `json:"limits"`
	Reset  []string      `json:"reset,omitempty"` // keys of limits that are as for agents of whom nothing is said
}

// LimitsChanged is the answer.
type LimitsChanged struct {
	Agent     Agent    `json:"agent"`
	Overruled []string `json:"overruled"` // keys that were changed, and that the hub's file says otherwise: that counts
}

// Agents is a hub, as far as operators have to do with it. Names that nobody has are errors that wrap ErrNoAgent; where there is no
// hub each is ErrNoHub.
type Agents interface {
	Agents() ([]Agent, error) // sorted by name
	Token(ctx context.Context, r TokenRequest) (Token, error)
	Kick(name string) error                            // ends its session; it may come again
	Revoke(ctx context.Context, name string) error     // and is not known any more
	Rename(ctx context.Context, name, to string) error // the same key by another name
	Limit(ctx context.Context, name string, change LimitsChange) (LimitsChanged, error)
	Tokens() ([]TokenInfo, error) // that can be used, the oldest first
	DeleteToken(ctx context.Context, id string) error
}

// ErrNoHub is that this daemon has no hub.
func ErrNoHub() error {
	return refuse(http.StatusUnprocessableEntity, CodeInvalid, "this daemon is no hub", "write [hub] into its file, or run one: `fairlead hub`")
}

// ErrNoAgent is that the hub knows no agent of that name.
func ErrNoAgent(name string) error {
	return refuse(http.StatusNotFound, CodeNotFound, fmt.Sprintf("no agent is called %q", name), "`fairlead agents` lists them all")
}

// ErrNoToken is that there is no token with that id.
func ErrNoToken(id string) error {
	return refuse(http.StatusNotFound, CodeNotFound, fmt.Sprintf("there is no token %q", id), "`fairlead agents tokens` lists them all; one that was used, or has expired, is gone")
}

// noAgents is a daemon without a hub.
type noAgents struct{}

func (noAgents) Agents() ([]Agent, error)                           { return nil, ErrNoHub() }
func (noAgents) Token(context.Context, TokenRequest) (Token, error) { return Token{}, ErrNoHub() }
func (noAgents) Kick(string) error                                  { return ErrNoHub() }
func (noAgents) Revoke(context.Context, string) error               { return ErrNoHub() }
func (noAgents) Rename(context.Context, string, string) error       { return ErrNoHub() }
func (noAgents) Tokens() ([]TokenInfo, error)                       { return nil, ErrNoHub() }
func (noAgents) DeleteToken(context.Context, string) error          { return ErrNoHub() }
func (noAgents) Limit(context.Context, string, LimitsChange) (LimitsChanged, error) {
	return LimitsChanged{}, ErrNoHub()
}

func (s *Server) agents(w http.ResponseWriter, _ *http.Request) {
	all, err := s.Agents.Agents()
	if err != nil {
		writeError(w, err)
		return
	}
	writeList(w, "agents", len(all), func(i int) any { return all[i] })
}

func (s *Server) token(w http.ResponseWriter, r *http.Request) {
	var in TokenRequest
	if err := readJSON(w, r, maxBody, &in); err != nil {
		writeError(w, err)
		return
	}
	if _, err := in.Limits.Agent(in.Name); err != nil {
		writeError(w, refuse(http.StatusUnprocessableEntity, CodeInvalid, err.Error(), config.HintLimits(err)))
		return
	}
	token, err := s.Agents.Token(r.Context(), in)
	if err != nil {
		writeError(w, err)
		return
	}
	writeJSON(w, token)
}

// manage does something about one agent.
func (s *Server) manage(do func(r *http.Request, name string) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if err := do(r, r.PathValue("name")); err != nil {
			writeError(w, err)
			return
		}
		writeJSON(w, struct{}{})
	}
}

// renamed is the body of POST /v1/agents/NAME/rename.
type renamed struct {
	To string `json:"to"`
}

func (s *Server) rename(w http.ResponseWriter, r *http.Request) {
	var in renamed
	err := readJSON(w, r, maxBody, &in)
	if err == nil {
		err = s.Agents.Rename(r.Context(), r.PathValue("name"), in.To)
	}
	if err != nil {
		writeError(w, err)
		return
	}
	writeJSON(w, struct{}{})
}

func (s *Server) tokens(w http.ResponseWriter, _ *http.Request) {
	all, err := s.Agents.Tokens()
	if err != nil {
		writeError(w, err)
		return
	}
	writeList(w, "tokens", len(all), func(i int) any { return all[i] })
}

func (s *Server) limit(w http.ResponseWriter, r *http.Request) {
	var in LimitsChange
	if err := readJSON(w, r, maxBody, &in); err != nil {
		writeError(w, err)
		return
	}
	if _, err := in.Limits.Agent(""); err != nil {
		writeError(w, refuse(http.StatusUnprocessableEntity, CodeInvalid, err.Error(), config.HintLimits(err)))
		return
	}
	for _, key := range in.Reset {
		if !slices.Contains(config.LimitKeys(), key) {
			writeError(w, refuse(http.StatusUnprocessableEntity, CodeInvalid, fmt.Sprintf("reset: there is no limit %.40q", key), "limits are "+strings.Join(config.LimitKeys(), ", ")))
			return
		}
	}
	changed, err := s.Agents.Limit(r.Context(), r.PathValue("name"), in)
	if err != nil {
		writeError(w, err)
		return
	}
	writeJSON(w, changed)
}

func (s *Server) agentRoutes(mux *http.ServeMux) {
	mux.HandleFunc("GET /v1/agents", s.agents)
	mux.HandleFunc("POST /v1/agents", s.token)
	mux.HandleFunc("POST /v1/agents/{name}/kick", s.manage(func(_ *http.Request, name string) error { return s.Agents.Kick(name) }))
	mux.HandleFunc("POST /v1/agents/{name}/rename", s.rename)
	mux.HandleFunc("POST /v1/agents/{name}/limits", s.limit)
	mux.HandleFunc("GET /v1/tokens", s.tokens)
	mux.HandleFunc("DELETE /v1/tokens/{name}", s.manage(func(r *http.Request, id string) error { return s.Agents.DeleteToken(r.Context(), id) }))
	mux.HandleFunc("DELETE /v1/agents/{name}", s.manage(func(r *http.Request, name string) error { return s.Agents.Revoke(r.Context(), name) }))
}

// Agents is every agent that is enrolled, sorted by name.
func (c *Client) Agents(ctx context.Context) ([]Agent, error) {
	var out struct{ Agents []Agent }
	err := c.do(ctx, http.MethodGet, "/v1/agents", nil, nil, &out)
	return out.Agents, err
}

// Token makes a token that enrols one agent.
func (c *Client) Token(ctx context.Context, r TokenRequest) (out Token, err error) {
	err = c.do(ctx, http.MethodPost, "/v1/agents", nil, r, &out)
	return out, err
}

// Kick ends an agent's session with all that passes through it. The agent may come again at once.
func (c *Client) Kick(ctx context.Context, name string) error {
	return c.do(ctx, http.MethodPost, "/v1/agents/"+url.PathEscape(name)+"/kick", nil, nil, nil)
}

// Revoke has an agent forgotten: its session ends, and its key is nobody's any more.
func (c *Client) Revoke(ctx context.Context, name string) error {
	return c.do(ctx, http.MethodDelete, "/v1/agents/"+url.PathEscape(name), nil, nil, nil)
}

// Rename gives an agent another name.
func (c *Client) Rename(ctx context.Context, name, to string) error {
	return c.do(ctx, http.MethodPost, "/v1/agents/"+url.PathEscape(name)+"/rename", nil, renamed{to}, nil)
}

// Limit changes what an agent may, at once.
func (c *Client) Limit(ctx context.Context, name string, change LimitsChange) (out LimitsChanged, err error) {
	err = c.do(ctx, http.MethodPost, "/v1/agents/"+url.PathEscape(name)+"/limits", nil, change, &out)
	return out, err
}

// Tokens is every token that nobody has used yet.
func (c *Client) Tokens(ctx context.Context) ([]TokenInfo, error) {
	var out struct{ Tokens []TokenInfo }
	err := c.do(ctx, http.MethodGet, "/v1/tokens", nil, nil, &out)
	return out.Tokens, err
}

// DeleteToken makes a token worth nothing.
func (c *Client) DeleteToken(ctx context.Context, id string) error {
	return c.do(ctx, http.MethodDelete, "/v1/tokens/"+url.PathEscape(id), nil, nil, nil)
}
