package config

import (
	"errors"
	"fmt"
	"time"

	"github.com/fairlead-net/fairlead/forward"
)

// DefaultAuthorizedKeys is where the SSH server looks for keys of clients when the configuration does not say.
const DefaultAuthorizedKeys = "/etc/fairlead/authorized_keys"

const (
	maxSSHDListen  = 64
	maxSSHDClients = 1_000_000
)

// An sshdTable is [sshd] as it is written.
type sshdTable struct {
	Listen         Strings
	HostKeys       Strings
	AuthorizedKeys Strings
	UserCAs        Strings
	GatewayPorts   string
	Permit         Strings
	Deny           Strings
	MaxConnections int
	MaxPerSource   int
	MaxStartups    int
	LoginGrace     string
	Keepalive      string
}

func (t *sshdTable) field(key string) any {
	switch key {
	case "listen":
		return &t.Listen
	case "host_keys":
		return &t.HostKeys
	case "authorized_keys":
		return &t.AuthorizedKeys
	case "user_cas":
		return &t.UserCAs
	case "gateway_ports":
		return &t.GatewayPorts
	case "permit":
		return &t.Permit
	case "deny":
		return &t.Deny
	case "max_connections":
		return &t.MaxConnections
	case "max_per_source":
		return &t.MaxPerSource
	case "max_startups":
		return &t.MaxStartups
	case "login_grace":
		return &t.LoginGrace
	case "keepalive":
		return &t.Keepalive
	}
	return nil
}

func sshdSheet(t *sshdTable) sheet {
	return sheet{name: "sshd", what: "SSH server", field: t.field, help: helpSSHD, keys: []string{
		"listen", "authorized_keys", "user_cas", "host_keys", "gateway_ports", "permit", "deny",
		"max_connections", "max_per_source", "max_startups", "login_grace", "keepalive",
	}}
}

func helpSSHD(key string) string {
	switch key {
	case "listen":
		return `listen is [address:]port, such as "2222" or "192.0.2.1:22", or a list of them`
	case "authorized_keys":
		return `authorized_keys is a file in the form of sshd(8), or a list of them; left out, it is "` + DefaultAuthorizedKeys + `"`
	case "user_cas":
		return `user_cas is a file with public keys of authorities whose certificates are taken, or a list of them`
	case "host_keys":
		return `host_keys is the file of a private key, or a list of them; left out, they are made at the first start`
	case "gateway_ports":
		return `gateway_ports is "no" (the default), "yes" or "clientspecified", as in sshd_config(5)`
	case "permit", "deny":
		return key + ` is one or several destinations, such as "*.example.com", "10.0.0.0/8" or "192.0.2.7:443"`
	case "max_connections":
		return `max_connections is how many clients are logged in at once, a whole number from 1; left out, it is 1000`
	case "max_per_source":
		return `max_per_source is how many connections one address has at once, a whole number from 1; left out, it is 100`
	case "max_startups":
		return `max_startups is how many clients are logging in at once, a whole number from 1; left out, it is 100`
	case "login_grace":
		return `login_grace is how long a client may take to log in, a time from 1s to 10m, such as "30s" (the default)`
	case "keepalive":
		return `keepalive is a time from 1s to 1h, such as "15s" (the default)`
	}
	return ""
}

func (r *reader) readSSHD(n *node) {
	t := sshdTable{MaxConnections: unset, MaxPerSource: unset, MaxStartups: unset}
	s := sshdSheet(&t)
	if !n.shape.isTable() {
		r.add(s.notTable(n))
		return
	}
	bad := r.fill(n, s)
	server, err := t.server()
	r.refuse(n, s, bad, err)
	r.settings.SSHD = &server
	for i, l := range server.Listen {
		at := placeOf(n, &forward.FieldError{Field: "listen", Err: itemError{i, nil}})
		r.checkTie(&forward.Forward{Name: s.header(), Listen: l}, at)
	}
}

// server is the SSH server that t describes.
func (t sshdTable) server() (s SSHD, _ error) {
	var c checker
	listen, err := parseList(t.Listen, helpSSHD("listen"), parseServerListen)
	switch {
	case t.Listen == nil:
		err = errors.New("an SSH server needs to know where it listens")
	case err == nil && len(listen) > maxSSHDListen:
		err = fmt.Errorf("the list has %d listeners; %d is the most", len(listen), maxSSHDListen)
	}
	c.check("listen", err)
	s.Listen = listen
	s.HostKeys = c.files("host_keys", t.HostKeys, false)
	s.UserCAs = c.files("user_cas", t.UserCAs, false)
	if s.AuthorizedKeys = c.files("authorized_keys", t.AuthorizedKeys, false); t.AuthorizedKeys == nil {
		s.AuthorizedKeys = []string{DefaultAuthorizedKeys}
	}
	switch s.GatewayPorts = t.GatewayPorts; s.GatewayPorts {
	case "":
		s.GatewayPorts = "no"
	case "no", "yes", "clientspecified":
	default:
		c.check("gateway_ports", fmt.Errorf("%q is not known here", s.GatewayPorts))
	}
	s.Policy = c.policy(t.Permit, t.Deny)
	s.MaxConnections = c.number("max_connections", t.MaxConnections, maxSSHDClients)
	s.MaxPerSource = c.number("max_per_source", t.MaxPerSource, maxSSHDClients)
	s.MaxStartups = c.number("max_startups", t.MaxStartups, maxSSHDClients)
	s.LoginGrace = c.span("login_grace", t.LoginGrace, time.Second, 10*time.Minute)
	s.Keepalive = c.span("keepalive", t.Keepalive, time.Second, time.Hour)
	return s, c.err()
}

func parseServerListen(s string) (forward.Listen, error) {
	l, err := forward.ParseListen(s)
	switch {
	case err != nil:
		return l, err
	case l.IsUnix():
		return l, errors.New("an SSH server listens on a port, and not on a unix socket")
	case l.Networks != forward.TCP:
		return l, errors.New("SSH is tcp; leave the protocol out")
	case l.Ports.All || l.Ports.Count() != 1:
		return l, fmt.Errorf("%q are several ports; a listener has one, and several listeners are a list", s)
	}
	return l, nil
}
