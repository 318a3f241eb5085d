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

	Gateway *forward.Gateway // nil: this host is nobody's router
	Portmap *portmap.Spec    // nil: no program of the LAN is given ports
	Coexist Coexist
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
		s.SSHD.Equal(t.SSHD) && s.Gateway.Equal(t.Gateway) && s.Portmap.Equal(t.Portmap) && s.Coexist == t.Coexist
}
