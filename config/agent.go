package config

import (
	"errors"
	"fmt"
	"net/url"
	"slices"

	"github.com/fairlead-net/fairlead/forward"
)

// An agentTable is [agent] as it is written.
type agentTable struct {
	Hub        string
	Name       string
	Allow      Strings
	Proxy      Secret
	Transports Strings
}

func (t *agentTable) field(key string) any {
	switch key {
	case "hub":
		return &t.Hub
	case "name":
		return &t.Name
	case "allow":
		return &t.Allow
	case "proxy":
		return &t.Proxy
	case "transports":
		return &t.Transports
	}
	return nil
}

func agentSheet(t *agentTable) sheet {
	return sheet{name: "agent", what: "agent", field: t.field, help: helpAgent, keys: []string{"hub", "name", "allow", "proxy", "transports"}}
}

func helpAgent(key string) string {
	switch key {
	case "hub":
		return `hub is host[:port] of the hub that "fairlead join" has joined, such as "hub.example.com:443"; left out, it is that one`
	case "name":
		return `name is what this agent is called at the hub, such as "home"; left out, it is what "fairlead join" was told`
	case "allow":
		return `allow is one or several destinations that the hub may dial here, such as "127.0.0.1:22" or "192.168.1.0/24:80"; left out, none`
	case "proxy":
		return `proxy is how the hub is reached where nothing else leads out: "http://[user:password@]host:port" or "socks5://…"; left out, it is $HTTPS_PROXY, else none`
	case "transports":
		return helpHub(key)
	}
	return ""
}

func (r *reader) readAgent(n *node) {
	var t agentTable
	s := agentSheet(&t)
	if !n.shape.isTable() {
		r.add(s.notTable(n))
		return
	}
	bad := r.fill(n, s)
	agent, err := t.agent()
	r.refuse(n, s, bad, err)
	r.settings.Agent = &agent
}

// agent is the agent that t describes.
func (t agentTable) agent() (a Agent, _ error) {
	var c checker
	var err error
	if t.Hub != "" {
		a.Hub = t.Hub
		c.check("hub", CheckHubAddress(t.Hub))
	}
	if t.Name != "" {
		a.Name = t.Name
		c.check("name", CheckAgentName(t.Name))
	}
	a.Allow, err = parseRules(t.Allow, "leave allow out for a hub that dials nothing here")
	c.check("allow", err)
	a.Proxy = t.Proxy
	c.check("proxy", CheckTunnelProxy(string(t.Proxy)))
	a.Transports, err = parseTransports(t.Transports)
	c.check("transports", err)
	return a, c.err()
}

// NewAgent is an agent that goes by a proxy and transports, "" and none for what is usual. The error is one *forward.FieldError or
// several joined, for HintAgent.
func NewAgent(proxy string, transports []string) (*Agent, error) {
	a, err := agentTable{Proxy: Secret(proxy), Transports: transports}.agent()
	return &a, err
}

// HintAgent says what would have been right where NewAgent says what is wrong.
func HintAgent(err error) string { return hintOf(err, helpAgent) }

// CheckTunnelProxy holds a proxy to a URL that an agent can go through. What is wrong does not repeat it: it may have a password.
func CheckTunnelProxy(s string) error {
	if s == "" || s == "none" {
		return nil
	}
	u, err := url.Parse(s)
	switch {
	case err != nil || u.Host == "":
		return errors.New("this is no URL of a proxy")
	case !slices.Contains([]string{"http", "https", "socks5", "socks5h"}, u.Scheme):
		return fmt.Errorf("%q is no kind of proxy", clip(u.Scheme, 20))
	case u.Path != "" && u.Path != "/" || u.RawQuery != "" || u.Fragment != "":
		return errors.New("a proxy is a host and a port, and nothing follows them")
	}
	if port := u.Port(); port != "" {
		if _, err := forward.ParsePorts(port); err != nil {
			return fmt.Errorf("%q is no port; ports are 1 to 65535", clip(port, 20))
		}
	}
	return nil
}
