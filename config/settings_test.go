package config_test

import (
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/fairlead-net/fairlead/config"
	"github.com/fairlead-net/fairlead/forward"
	"github.com/fairlead-net/fairlead/node"
	"github.com/fairlead-net/fairlead/portmap"
)

// hash is one of a password that nobody has.
const hash = "$2b$10$N9qo8uLOickgx2ZMRZoMyeIjZAgcfl7p92ldGxad68LJZdL17lhWy"

// TestSettings reads what the reference says of everything that is no forward. A key that is misread or forgotten is one
// that leaves its field as it was.
func TestSettings(t *testing.T) {
	cfg, err := config.Parse("reference.toml", config.Reference())
	if err != nil {
		t.Fatal(err)
	}
	s := cfg.Settings
	if len(s.Nodes) != 4 || len(s.Users) != 2 || s.SSHD == nil {
		t.Fatalf("%+v", s)
	}
	if want := (node.Spec{Name: "bastion", SSH: &node.SSH{Target: "deploy@bastion.example.com"}}); !s.Nodes[0].Equal(want) {
		t.Errorf("%+v", s.Nodes[0].SSH)
	}
	if want := (node.Spec{Name: "inner", SSH: &node.SSH{
		Target: "root@[2001:db8:1::22]:2222", Jump: "bastion", Identities: []string{"/etc/fairlead/id_ed25519", "~/.ssh/id_ed25519"},
		Agent: "none", KnownHosts: []string{"/etc/fairlead/known_hosts"}, AcceptNew: true, Keepalive: 30 * time.Second, Connections: 4,
		Config: "/etc/fairlead/ssh_config",
	}}); !s.Nodes[2].Equal(want) {
		t.Errorf("%+v", s.Nodes[2].SSH)
	}
	ben := s.Users[1]
	if ben.Name != "ben" || ben.Password.Reveal() != hash || len(ben.Policy.Permit) != 2 || ben.Policy.Deny[0].String() != "10.1.9.0/24" {
		t.Errorf("%+v", ben)
	}
	noZero(t, "sshd", reflect.ValueOf(*s.SSHD))
	noZero(t, "node", reflect.ValueOf(*s.Nodes[2].SSH), "Options") // options are for the command line
	if d := s.SSHD; d.Listen[1].String() != "tcp/[2001:db8::1]:22" || d.LoginGrace != 20*time.Second || d.MaxConnections != 500 ||
		d.MaxPerSource != 20 || d.MaxStartups != 50 || d.GatewayPorts != "clientspecified" || d.Keepalive != 30*time.Second {
		t.Errorf("%+v", d)
	}
	again, err := config.Parse("reference.toml", config.Reference())
	if err != nil || !again.Settings.Equal(s) || s.Equal(config.Settings{}) {
		t.Error("two readings differ")
	}
	for _, key := range []string{
		"ssh", "jump", "identity", "agent", "known_hosts", "accept_new", "keepalive", "connections", "config", "password",
		"authorized_keys", "user_cas", "host_keys", "gateway_ports", "max_startups", "login_grace",
	} {
		if !regexp.MustCompile(`(?m)^` + key + ` = `).Match(config.Reference()) {
			t.Errorf("%s does not occur in reference.toml", key)
		}
	}
}

func noZero(t *testing.T, what string, v reflect.Value, except ...string) {
	t.Helper()
	for field, value := range v.Fields() {
		if value.IsZero() && !strings.Contains(strings.Join(except, " "), field.Name) {
			t.Errorf("the reference does not set %s of %s", field.Name, what)
		}
	}
}

// TestGateway: every key of the reference arrives, and what is left out has its default.
func TestGateway(t *testing.T) {
	cfg, err := config.Parse("reference.toml", config.Reference())
	if err != nil {
		t.Fatal(err)
	}
	s := cfg.Settings
	if s.Gateway == nil || s.Portmap == nil || s.Coexist != config.CoexistAuto {
		t.Fatalf("%+v", s)
	}
	noZero(t, "gateway", reflect.ValueOf(*s.Gateway))
	noZero(t, "gateway.portmap", reflect.ValueOf(*s.Portmap))
	cfg, err = config.Parse("x", []byte("[gateway]\nwan = [\"eth0\"]\nlan = [\"br0\"]\n[gateway.portmap]"))
	if err != nil {
		t.Fatal(err)
	}
	want := &forward.Gateway{WAN: []string{"eth0"}, LAN: []string{"br0"}, Masquerade: true, Protect: true, ClampMSS: true}
	if s = cfg.Settings; !s.Gateway.Equal(want) || s.Coexist != config.CoexistReport {
		t.Errorf("%+v", s.Gateway)
	}
	if p := s.Portmap; p == nil || len(p.Protocols) != 3 || p.IGD != 1 || p.Ports.String() != "1024-65535" || p.MaxLife != portmap.DefaultMaxLife ||
		p.MinLife != portmap.DefaultMinLife || p.MaxLeases != portmap.DefaultMaxLeases || p.MaxClient != portmap.DefaultMaxClient || p.Ask || p.ThirdParty {
		t.Errorf("%+v", p)
	}
	for text, want := range map[string]bool{ // whether there is a gateway, and a server
		"[gateway]\ncoexist = \"auto\"": false,
		"[dmz]\ninterfaces = \"br1\"\n[gateway]\nwan = \"eth0\"\nlan = \"br0\"\nsnat = \"203.0.113.7\"\n[gateway.portmap]\nenabled = false": true,
	} {
		cfg, err := config.Parse("x", []byte(text))
		if err != nil || (cfg.Settings.Gateway != nil) != want || cfg.Settings.Portmap != nil {
			t.Errorf("%s: %+v, %v", text, cfg, err)
		} else if g := cfg.Settings.Gateway; want && (g.Masquerade || len(g.DMZ) != 1) {
			t.Errorf("%+v", g)
		}
	}
}

func TestSSHDDefaults(t *testing.T) {
	cfg, err := config.Parse("x", []byte("[sshd]\nlisten = \":2222\""))
	if err != nil {
		t.Fatal(err)
	}
	listen, _ := forward.ParseListen("2222")
	if want := (&config.SSHD{
		Listen: []forward.Listen{listen}, AuthorizedKeys: []string{config.DefaultAuthorizedKeys}, GatewayPorts: "no",
	}); !cfg.Settings.SSHD.Equal(want) {
		t.Errorf("%+v", cfg.Settings.SSHD)
	}
	if cfg, err = config.Parse("x", nil); err != nil || cfg.Settings.SSHD != nil {
		t.Errorf("%+v, %v", cfg, err)
	}
}

func TestServer(t *testing.T) {
	for _, good := range []string{
		"bastion", "bastion.example.com", "deploy@bastion", "deploy@bastion:2222", "192.0.2.1", "192.0.2.1:22", "2001:db8::1", "root@2001:db8::1",
		"[2001:db8::1]", "root@[2001:db8::1]:2222", "[fe80::1%eth0]:22", "a_b", "WORK\\anna@host", "anna@corp.example@host", "höst",
	} {
		if _, err := config.Parse("x", []byte("[node.a]\nssh = '"+good+"'")); err != nil {
			t.Errorf("%s: %v", good, err)
		}
	}
	for _, bad := range []string{
		"", "@host", "user@", "host:", "host:0", "host:65536", "host:ssh", "-host", "-l@host", "a b", "host;reboot", "$(x)@host", "host|x", "ssh://host", "[2001:db8::1",
		"[host]:22", "[::1]22", "[::1]:", "2001:db8::1:x", "user:secret@host", "host\\t", "a*", "a,b", "a/b", strings.Repeat("a", 600),
	} {
		if _, err := config.Parse("x", []byte("[node.a]\nssh = \""+bad+"\"")); err == nil {
			t.Errorf("%q passed", bad)
		}
	}
}

// TestCheck: a forward that was added to a running daemon is held to the nodes and users of its file.
func TestCheck(t *testing.T) {
	s := declaring(t).Settings
	for _, test := range []struct {
		spec  config.Spec
		field string // of the error; "" is none
		hint  string // a part of it
	}{
		{config.Spec{Listen: "80", To: config.Strings{"h"}}, "", ""},
		{config.Spec{Listen: "80", To: config.Strings{"h"}, Via: "bastion"}, "", ""},
		{config.Spec{Listen: "80", To: config.Strings{"h"}, Via: "host", At: "host"}, "", ""},
		{config.Spec{Listen: "80", To: config.Strings{"h"}, Via: "bation"}, "via", `did you mean "bastion"?`},
		{config.Spec{Listen: "80", To: config.Strings{"h"}, At: "elsewhere"}, "at", "[node.elsewhere]"},
		{config.Spec{Listen: "udp/80", To: config.Strings{"h"}, Via: "bastion"}, "listen", "tcp"},
		{config.Spec{Listen: "80", To: config.Strings{"h"}, At: "bastion", AcceptProxy: config.Strings{"10.0.0.0/8"}}, "", ""},
		{config.Spec{Listen: "unix:/run/a.sock", To: config.Strings{"unix:/run/b.sock"}, At: "bastion", Via: "bastion"}, "", ""},
		{config.Spec{Listen: "unix:/run/a.sock", To: config.Strings{"unix:/run/a.sock"}, Via: "bastion"}, "", ""},
		{config.Spec{Listen: "80-90", To: config.Strings{"h"}, At: "bastion", From: config.Strings{"10.0.0.0/8"}}, "", ""},
		{config.Spec{Listen: "1080", To: config.Strings{"socks"}}, "", ""},
		{config.Spec{Listen: "1080", To: config.Strings{"socks"}, Users: config.Strings{"bem"}}, "users", `did you mean "ben"?`},
		{config.Spec{Listen: "1080", To: config.Strings{"proxy"}, At: "bastion", Users: config.Strings{"ben"}}, "", ""},
	} {
		f, err := test.spec.Forward("a", forward.OriginAPI)
		if err != nil {
			t.Fatal(err)
		}
		err = errors.Join(config.CheckNodes(f, s), config.CheckUsers(f, s.Users))
		var field *forward.FieldError
		if errors.As(err, &field); (field == nil) != (test.field == "") || field != nil && field.Field != test.field {
			t.Errorf("%+v: %v, want an error about %q", test.spec, err, test.field)
		}
		if hint := config.Hint(err); !strings.Contains(hint, test.hint) || (err != nil) != (hint != "") {
			t.Errorf("%v: hint %q", err, hint)
		}
	}
}

// TestOpenProxy: without users nothing but loopback has a proxy, wherever it listens.
func TestOpenProxy(t *testing.T) {
	nodes := declaring(t).Settings.Nodes
	for _, at := range []string{"", "bastion"} {
		for listen, open := range map[string]bool{
			"1080": true, "0.0.0.0:1080": true, "[::]:1080": true, "192.0.2.1:1080": true, "[2001:db8::1]:1080": true,
			"127.0.0.1:1080": false, "[::1]:1080": false, "127.1.2.3:1080": false, "[::ffff:127.0.0.1]:1080": false, "unix:/run/proxy.sock": false,
		} {
			for _, to := range []string{"socks", "http", "proxy"} {
				f, err := config.Spec{Listen: listen, To: config.Strings{to}, At: at}.Forward("a", forward.OriginAPI)
				if err != nil || config.CheckNodes(f, config.Settings{Nodes: nodes}) != nil {
					t.Fatal(listen, err)
				}
				err = config.CheckUsers(f, nil)
				var field *forward.FieldError
				if open != (errors.As(err, &field) && field.Field == "listen") || open != strings.Contains(config.Hint(err), "fairlead user add") {
					t.Errorf("%s at %q without users: %v", listen, at, err)
				}
				if err := config.CheckUsers(f, declaring(t).Settings.Users); err != nil {
					t.Errorf("%s with users: %v", listen, err)
				}
			}
		}
	}
}

// TestPasswordsStayHidden: whatever is written in the place of a password, no error repeats it.
func TestPasswordsStayHidden(t *testing.T) {
	for _, text := range []string{
		"[users.a]\npassword = \"hunter2\"", "[users.a]\npassword = hunter2", "[users.a]\npassword = 'hunter2", "[users.a]\npassword = [\"hunter2\"]",
		"[users.a]\npassword = { hunter2 = 1 }", "[users]\na = \"hunter2\"", "[users]\npassword = \"hunter2\"", "users = \"hunter2\"", "[[users.a]]\npassword = \"hunter2\"",
		"[users.a]\npass = \"hunter2\"", "[users.a]\npassword = \"$1$hunter2\"", "password = \"hunter2\"", "[users.a]\npassword = \"x\"\npassword = \"hunter2\"",
		"users.a.password = \"hunter2\"", "users.a = { password = \"hunter2\" }", "[user.a]\npassword = \"hunter2\"", "[users.a.b]\npassword = \"hunter2\"",
	} {
		_, err := config.Parse("x", []byte(text))
		if err == nil {
			t.Errorf("%s parsed", text)
		} else if got := render(t, err); strings.Contains(got, "unter2") {
			t.Errorf("an error repeats the password: %s", got)
		}
	}
	s := declaring(t).Settings
	if text := fmt.Sprintf("%v %+v %#v", s, s, s); strings.Contains(text, hash[7:]) {
		t.Errorf("settings show a hash: %s", text)
	}
}

func TestTooMany(t *testing.T) {
	list := func(n int, item string) string { return "[" + strings.Repeat(item+", ", n) + "]" }
	var nodes, users strings.Builder
	for i := range config.MaxNodes + 1 {
		fmt.Fprintf(&nodes, "[node.n%d]\nssh = \"a\"\n", i)
	}
	for i := range config.MaxUsers + 1 {
		fmt.Fprintf(&users, "[users.u%d]\npassword = \"%s\"\n", i, hash)
	}
	for text, want := range map[string]string{
		nodes.String(): "1000 is the most",
		users.String(): "10000 is the most",
		"[forward.a]\nlisten = \"127.0.0.1:80\"\nto = \"socks\"\npermit = " + list(1001, `"a"`): "1000 is the most",
		"[forward.a]\nlisten = \"127.0.0.1:80\"\nto = \"socks\"\nusers = " + list(1001, `"a"`):  "1000 is the most",
		"[node.a]\nssh = \"a\"\nidentity = " + list(101, `"/a"`):                                "100 is the most",
		"[sshd]\nlisten = " + list(65, `"22"`):                                                  "64 is the most",
		"[sshd]\nlisten = \"22\"\nhost_keys = \"/" + strings.Repeat("a", 5000) + "\"":           "4095 is the most",
		"[node." + strings.Repeat("a", 65) + "]\nssh = \"a\"":                                   "64 is the most",
		"[node.a]\nssh = \"a\"\nconnections = -2147483648":                                      "too large",
		"[node.a]\nssh = \"a\"\nknown_hosts = \"/a\\u0000b\"":                                   "character",
		"[users.a]\npassword = \"$2b$10$" + strings.Repeat("a", 5000) + "\"\ndeny = \"a..b\"":   "neither",
	} {
		if _, err := config.Parse("x", []byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.60s…: %v", text, err)
		}
	}
}
