package config

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/fairlead-net/fairlead/forward"
	nodes "github.com/fairlead-net/fairlead/node"
)

// MaxNodes is how many nodes one configuration declares.
const MaxNodes = 1000

// maxNodeConnections bounds what one node opens.
const maxNodeConnections = 64

// A nodeTable is [node.NAME] as it is written.
type nodeTable struct {
	SSH         string
	Hub         string
	Jump        string
	Identity    Strings
	KnownHosts  Strings
	AcceptNew   bool
	Keepalive   string
	Agent       string
	Connections int
	Config      string
}

func (t *nodeTable) field(key string) any {
	switch key {
	case "ssh":
		return &t.SSH
	case "hub":
		return &t.Hub
	case "jump":
		return &t.Jump
	case "identity":
		return &t.Identity
	case "known_hosts":
		return &t.KnownHosts
	case "accept_new":
		return &t.AcceptNew
	case "keepalive":
		return &t.Keepalive
	case "agent":
		return &t.Agent
	case "connections":
		return &t.Connections
	case "config":
		return &t.Config
	}
	return nil
}

func nodeSheet(name string, t *nodeTable) sheet {
	keys := []string{"ssh", "hub", "jump", "identity", "agent", "known_hosts", "accept_new", "keepalive", "connections", "config"}
	return sheet{table: "node", name: name, what: "node", keys: keys, field: t.field, help: helpNode}
}

func helpNode(key string) string {
	switch key {
	case "":
		return Help("")
	case "ssh":
		return `ssh is [user@]host[:port] or an alias of ssh_config, such as "deploy@bastion.example.com" or "root@[2001:db8::1]:2222"`
	case "hub":
		return `hub is the name of another agent of the hub that [agent] speaks of, such as "office"`
	case "jump":
		return `jump is the name of the node that dials this one, such as "bastion"; leave it out for what ssh_config says, else this host`
	case "identity":
		return `identity is the file of a private key, such as "/etc/fairlead/id_ed25519", or a list of them`
	case "agent":
		return `agent is the socket of an SSH agent, such as "/run/user/1000/agent.sock", or "none"; leave it out for $SSH_AUTH_SOCK`
	case "known_hosts":
		return `known_hosts is a file with keys of servers, such as "/etc/fairlead/known_hosts", or a list of them`
	case "accept_new":
		return `accept_new is true or false (the default): whether the key of a server that is not known yet is written down and believed`
	case "keepalive":
		return `keepalive is a time from 1s to 1h, such as "15s" (the default)`
	case "connections":
		return `connections is a whole number from 1 (the default) to 64`
	case "config":
		return `config is a file such as "/etc/fairlead/ssh_config", or "none"; leave it out for the user's own and the system's`
	}
	return ""
}

func (r *reader) readNodes(all *node) {
	if !r.hasTables(all, "node") {
		return
	}
	if n := len(all.children); n > MaxNodes {
		r.add(problem{at: all.children[MaxNodes].at, msg: fmt.Sprintf("the file has %d nodes; %d is the most", n, MaxNodes), hint: "one node serves any number of forwards"})
		return
	}
	bad := map[string]told{}
	for _, n := range all.children {
		t := nodeTable{Connections: unset}
		s := nodeSheet(n.name, &t)
		spec := nodes.Spec{Name: n.name, SSH: new(nodes.SSH)} // whatever is wrong with it, it is declared
		if n.shape.isTable() {
			bad[n.name] = r.fill(n, s)
			var err error
			spec, err = t.spec(n.name, r.settings.Agent != nil)
			r.refuse(n, s, bad[n.name], err)
		} else {
			r.add(s.notTable(n))
		}
		if n.name != HubNode || r.settings.Agent == nil { // else it is there already
			r.settings.Nodes = append(r.settings.Nodes, spec)
		}
	}
	slices.SortFunc(r.settings.Nodes, func(a, b nodes.Spec) int { return strings.Compare(a.Name, b.Name) })
	for _, n := range all.children {
		spec, _ := nodeNamed(r.settings.Nodes, n.name)
		if spec.SSH == nil {
			continue
		}
		err := r.settings.checkAgentOrNode(spec.SSH.Jump)
		if err == nil {
			err = checkCircle(n.name, r.settings.Nodes)
		}
		if err != nil {
			err = &forward.FieldError{Field: "jump", Err: err}
		}
		r.refuse(n, nodeSheet(n.name, new(nodeTable)), bad[n.name], err)
	}
}

// spec is the node that t declares; whatever is wrong with it, it has a kind. Whether there is a node to jump over is not looked at.
func (t nodeTable) spec(name string, agent bool) (nodes.Spec, error) {
	if t.Hub == "" {
		ssh, err := t.ssh(name, agent)
		return nodes.Spec{Name: name, SSH: &ssh}, err
	}
	var c checker
	c.checkNodeName(name, agent)
	switch {
	case !agent:
		c.check("hub", withHint{errors.New("this host is no agent, and knows no others"), `write [agent], after "fairlead join" has made this host one`})
	case forward.CheckName(t.Hub) != nil:
		c.check("hub", withHint{fmt.Errorf("%q is no name of an agent", clip(t.Hub, 100)), helpNode("hub") + "; the address of the hub stands in [agent]"})
	default:
		c.check("hub", CheckAgentName(t.Hub))
	}
	for _, key := range []string{"ssh", "jump", "identity", "agent", "known_hosts", "accept_new", "keepalive", "connections", "config"} {
		if t.says(key) {
			c.check(key, withHint{fmt.Errorf("%s is of an SSH server, and this node is an agent", key), "leave " + key + " out, or leave hub out"})
		}
	}
	return nodes.Spec{Name: name, Hub: &nodes.Hub{Agent: t.Hub}}, c.err()
}

// says reports whether a key was written.
func (t *nodeTable) says(key string) bool {
	switch v := t.field(key).(type) {
	case *string:
		return *v != ""
	case *Strings:
		return *v != nil
	case *bool:
		return *v
	case *int:
		return *v != unset
	}
	return false
}

// checkNodeName holds the name of a node that is declared to what it can be.
func (c *checker) checkNodeName(name string, agent bool) {
	switch {
	case name == forward.Host:
		c.check("", withHint{fmt.Errorf("%q is this machine", name), "give the node another name"})
	case name == HubNode && agent:
		c.check("", withHint{fmt.Errorf("%q is the hub that [agent] speaks of", name), "give the node another name"})
	case name == "":
		c.check("", errors.New("a node needs a name"))
	default:
		c.check("", forward.CheckName(name))
	}
}

// ssh is the SSH server that t declares.
func (t nodeTable) ssh(name string, agent bool) (nodes.SSH, error) {
	var c checker
	c.checkNodeName(name, agent)
	if t.SSH == "" {
		c.check("ssh", errors.New("a node needs to know which server it is"))
	} else {
		c.check("ssh", checkServer(t.SSH))
	}
	s := nodes.SSH{Target: t.SSH, Jump: t.Jump, AcceptNew: t.AcceptNew, Agent: t.Agent, Config: t.Config}
	s.Identities = c.files("identity", t.Identity, true)
	s.KnownHosts = c.files("known_hosts", t.KnownHosts, true)
	if t.Agent != "" && t.Agent != "none" {
		c.check("agent", checkFile(t.Agent, true))
	}
	if t.Config != "" && t.Config != "none" {
		c.check("config", checkFile(t.Config, true))
	}
	s.Keepalive = c.span("keepalive", t.Keepalive, time.Second, time.Hour)
	s.Connections = c.number("connections", t.Connections, maxNodeConnections)
	return s, c.err()
}

// span reads a time between two others.
func (c *checker) span(field, text string, least, most time.Duration) time.Duration {
	d, err := forward.ParseDuration(text)
	if err == nil && d != 0 && (d < least || d > most) {
		err = fmt.Errorf("%s is not between %s and %s", text, forward.FormatDuration(least), forward.FormatDuration(most))
	}
	c.check(field, err)
	return d
}

// checkServer holds "[user@]host[:port]" to what can be one; a host may be an alias, which only ssh_config knows.
func checkServer(s string) error {
	const most = 512
	if len(s) > most {
		return fmt.Errorf("it is %d bytes long; %d is the most", len(s), most)
	}
	if strings.Contains(s, "://") {
		return withHint{fmt.Errorf("%q is a URL", s), "write it without the scheme, such as \"deploy@bastion.example.com:22\""}
	}
	host, user := s, ""
	if at := strings.LastIndexByte(s, '@'); at >= 0 {
		if user, host = s[:at], s[at+1:]; user == "" {
			return fmt.Errorf("%q has no user before the '@'", s)
		}
	}
	port := ""
	if rest, ok := strings.CutPrefix(host, "["); ok {
		addr, after, closed := strings.Cut(rest, "]")
		if _, err := netip.ParseAddr(addr); !closed || err != nil || after != "" && after[0] != ':' {
			return fmt.Errorf("%q: in brackets stands an IPv6 address, and ':' and the port may follow", s)
		}
		host, port = addr, strings.TrimPrefix(after, ":")
		if after == ":" {
			return fmt.Errorf("%q ends where its port should be", s)
		}
	} else if strings.Count(host, ":") == 1 {
		host, port, _ = strings.Cut(host, ":")
		if port == "" {
			return fmt.Errorf("%q ends where its port should be", s)
		}
	} else if _, err := netip.ParseAddr(host); err != nil && strings.Contains(host, ":") {
		return fmt.Errorf("%q has several ':' and is no IPv6 address; one before a port stands in brackets", s)
	}
	if n, err := strconv.ParseUint(port, 10, 16); port != "" && (err != nil || n == 0) {
		return fmt.Errorf("%q is no port; ports are 1 to 65535", port)
	}
	// What a shell would take for more than a name never was one (ssh(1) refuses the same).
	switch odd := func(r rune) bool { return r <= ' ' || r == 0x7f || strings.ContainsRune("'`\"$\\;&<>|(){}*?!,/#", r) }; {
	case host == "":
		return fmt.Errorf("%q has no host", s)
	case host[0] == '-' || user != "" && user[0] == '-':
		return fmt.Errorf("%q begins with '-', as no host and no user does", s)
	case strings.ContainsFunc(host, odd):
		return fmt.Errorf("%q is no host", host)
	case strings.ContainsFunc(user, func(r rune) bool { return odd(r) && r != '\\' || r == ':' }):
		return fmt.Errorf("%q is no user", user)
	}
	return nil
}
