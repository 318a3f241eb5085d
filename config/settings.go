package config

import (
	"slices"
	"time"

	"github.com/fairlead-net/fairlead/forward"
	nodes "github.com/fairlead-net/fairlead/node" // a node in this package is one of the tree
	"github.com/fairlead-net/fairlead/portmap"
)

// Settings is everything in a configuration that is not a forward.
type Settings struct {
	Nodes []nodes.Spec   // sorted by name
	Users []forward.User // sorted by name
	SSHD  *SSHD          // nil: no SSH server
	ACME  ACME           // where certificates come from
	OIDC  OIDC           // where people log in; zero: nowhere

	Gateway *forward.Gateway // nil: this host is nobody's router
	Portmap *portmap.Spec    // nil: no program of the LAN is given ports
	Coexist Coexist

	Hub    *Hub          // nil: this host is no hub
	Agents []AgentLimits // sorted by name: of a hub's agents, those that have limits of their own
	Agent  *Agent        // nil: this host is no hub's agent
}

// A Hub is the [hub] table: where agents come in.
type Hub struct {
	Listen     forward.Listen // one port of TCP and UDP
	Address    string         // host[:port] that agents are told to call; "": what this host seems to be called by
	Ports      forward.Ports  // where agents may listen that have no ports of their own
	Resume     time.Duration  // how long sessions wait for an agent that is away
	Transports []string       // that are taken, the best first
	MaxAgents  int            // that are enrolled
}

// AgentLimits is the [agents.NAME] table of a hub: what one agent may.
type AgentLimits struct {
	Name        string
	Ports       forward.Ports  // where it may listen; none are those of the hub
	NoPorts     bool           // it may not listen at all
	Hosts       []string       // names that it may serve, sorted: "blog.example.com", or "*.example.com" for all below it. Of this and the next two, nil says nothing, and empty none
	Targets     []forward.Rule // what the hub dials for it
	Reach       []string       // agents that it reaches, sorted; "*" is all
	Bandwidth   int64          // bytes a second each way; 0 is no limit
	MaxSessions int            // connections and flows open at once; 0 is the hub's default
	MaxForwards int            // 0 is the hub's default
	Expires     time.Time      // zero is never
}

// An Agent is the [agent] table: whose agent this host is, and what the hub may have it dial.
type Agent struct {
	Hub        string         // host[:port]; "": the one that was joined
	Name       string         // "": the one that it was enrolled by
	Allow      []forward.Rule // none: the hub dials nothing here
	Proxy      Secret         // URL; "": what the environment says; "none"
	Transports []string       // that are tried, the best first
}

// Equal reports whether h and k are the same hub.
func (h *Hub) Equal(k *Hub) bool {
	if h == nil || k == nil {
		return h == k
	}
	return h.Listen.Equal(k.Listen) && h.Address == k.Address && h.Ports.Equal(k.Ports) && h.Resume == k.Resume &&
		slices.Equal(h.Transports, k.Transports) && h.MaxAgents == k.MaxAgents
}

// Equal reports whether a and b permit the same to the same agent.
func (a AgentLimits) Equal(b AgentLimits) bool {
	lists := (a.Hosts == nil) == (b.Hosts == nil) && slices.Equal(a.Hosts, b.Hosts) && (a.Targets == nil) == (b.Targets == nil) && slices.Equal(a.Targets, b.Targets) &&
		(a.Reach == nil) == (b.Reach == nil) && slices.Equal(a.Reach, b.Reach)
	return lists && a.Name == b.Name && a.Ports.Equal(b.Ports) && a.NoPorts == b.NoPorts && a.Bandwidth == b.Bandwidth && a.MaxSessions == b.MaxSessions && a.MaxForwards == b.MaxForwards && a.Expires.Equal(b.Expires)
}

// Equal reports whether a and b are the same agent.
func (a *Agent) Equal(b *Agent) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.Hub == b.Hub && a.Name == b.Name && slices.Equal(a.Allow, b.Allow) && a.Proxy == b.Proxy && slices.Equal(a.Transports, b.Transports)
}

// Coexist is what is done about other programs' firewalls that would drop what a forward lets in.
type Coexist uint8

// What is done: they are always looked at, and named.
const (
	CoexistReport Coexist = iota // no more than that
	CoexistAuto                  // where such a firewall has a place for it, the forward's traffic is accepted there
)

// An SSHD is the [sshd] table: the SSH server whose clients forward ports and nothing else.
type SSHD struct {
	Listen         []forward.Listen // TCP; the default is no server
	HostKeys       []string         // files; none: made at the first start, in the state directory
	AuthorizedKeys []string         // files in the form of sshd(8)
	UserCAs        []string         // files with the public keys of authorities whose certificates are taken
	GatewayPorts   string           // as in sshd_config(5): "no" (the default), "yes", "clientspecified"
	Policy         forward.Policy   // where its clients' channels may lead, besides what their keys say
	MaxConnections int              // logged in at once; 0 is 1000
	MaxPerSource   int              // from one address, logged in or not; 0 is 100
	MaxStartups    int              // that have not logged in yet; 0 is 100
	LoginGrace     time.Duration    // to log in; 0 is 30 s
	Keepalive      time.Duration    // how often a silent client is asked whether it lives; 0 is 15 s
}

// Equal reports whether s and t are the same server.
func (s *SSHD) Equal(t *SSHD) bool {
	if s == nil || t == nil {
		return s == t
	}
	a, b := *s, *t
	lists := slices.EqualFunc(a.Listen, b.Listen, forward.Listen.Equal) && slices.Equal(a.HostKeys, b.HostKeys) &&
		slices.Equal(a.AuthorizedKeys, b.AuthorizedKeys) && slices.Equal(a.UserCAs, b.UserCAs) && a.Policy.Equal(b.Policy)
	return lists && a.GatewayPorts == b.GatewayPorts && a.MaxConnections == b.MaxConnections && a.MaxPerSource == b.MaxPerSource &&
		a.MaxStartups == b.MaxStartups && a.LoginGrace == b.LoginGrace && a.Keepalive == b.Keepalive
}

// Equal reports whether s and t are the same settings.
func (s Settings) Equal(t Settings) bool {
	return slices.EqualFunc(s.Nodes, t.Nodes, nodes.Spec.Equal) && slices.EqualFunc(s.Users, t.Users, forward.User.Equal) &&
		s.SSHD.Equal(t.SSHD) && s.Gateway.Equal(t.Gateway) && s.Portmap.Equal(t.Portmap) && s.Coexist == t.Coexist && s.ACME == t.ACME && s.OIDC == t.OIDC &&
		s.Hub.Equal(t.Hub) && slices.EqualFunc(s.Agents, t.Agents, AgentLimits.Equal) && s.Agent.Equal(t.Agent)
}
