package node

import (
	"slices"
	"time"
)

// A Spec is a node as it was declared: a name and one kind. It is never changed once handed over.
type Spec struct {
	Name string
	SSH  *SSH
	Hub  *Hub
}

// Equal reports whether s and t declare the same node, so that replacing one by the other need not touch a connection.
func (s Spec) Equal(t Spec) bool {
	return s.Name == t.Name && (s.SSH == t.SSH || s.SSH != nil && t.SSH != nil && s.SSH.equal(t.SSH)) &&
		(s.Hub == t.Hub || s.Hub != nil && t.Hub != nil && *s.Hub == *t.Hub)
}

// Hub is the hub that this host is an agent of, or another agent of that hub.
type Hub struct {
	Agent string // its name at the hub; "" is the hub itself
}

// SSH is an SSH server that is logged in to. What is left out comes from ssh_config(5), then from the usual defaults.
type SSH struct {
	Target      string        // [user@]host[:port], or an alias of ssh_config; an IPv6 address with a port stands in brackets
	Jump        string        // name of the node that dials the server; "" is what ssh_config says, else this host
	Identities  []string      // files of private keys, tried in this order; none: those of ssh_config, else the usual ones
	KnownHosts  []string      // files; none: those of ssh_config, else the usual ones
	AcceptNew   bool          // the key of a server that is in none of them is written to the first, and believed
	Keepalive   time.Duration // how often a silent connection is asked whether it lives; 0 is 15 s
	Agent       string        // socket of the agent; "" is $SSH_AUTH_SOCK, "none" is no agent
	Connections int           // over how many connections channels are spread; 0 is 1
	Config      string        // ssh_config file; "" is the user's and the system's, "none" is none
	Options     []string      // "Keyword=value" of ssh_config(5), which go before the files
}

func (s *SSH) equal(t *SSH) bool {
	a, b := *s, *t
	lists := slices.Equal(a.Identities, b.Identities) && slices.Equal(a.KnownHosts, b.KnownHosts) && slices.Equal(a.Options, b.Options)
	return lists && a.Target == b.Target && a.Jump == b.Jump && a.AcceptNew == b.AcceptNew && a.Keepalive == b.Keepalive &&
		a.Agent == b.Agent && a.Connections == b.Connections && a.Config == b.Config
}
