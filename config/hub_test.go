package config_test

import (
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/fairlead-net/fairlead/config"
	"github.com/fairlead-net/fairlead/forward"
	"github.com/fairlead-net/fairlead/node"
)

// TestHub: every key of the reference arrives, and what is left out has its default.
func TestHub(t *testing.T) {
	cfg, err := config.Parse("reference.toml", config.Reference())
	if err != nil {
		t.Fatal(err)
	}
	s := cfg.Settings
	if s.Hub == nil || s.Agent == nil || len(s.Agents) != 1 {
		t.Fatalf("%+v", s)
	}
	noZero(t, "hub", reflect.ValueOf(*s.Hub))
	noZero(t, "agents", reflect.ValueOf(s.Agents[0]), "NoPorts")
	noZero(t, "agent", reflect.ValueOf(*s.Agent))
	if h := s.Hub; h.Listen.String() != "tcp+udp/4443" || h.Resume != 10*time.Minute || h.MaxAgents != 500 {
		t.Errorf("%+v", h)
	}
	if a := s.Agents[0]; a.Name != "home" || a.Targets[0].String() != "10.0.0.5:5432" || a.Hosts[0] != "*.home.example.com" || a.Bandwidth != 12_500_000 {
		t.Errorf("%+v", a)
	}
	if fmt.Sprint(s.Agent.Proxy) != forward.Secret || string(s.Agent.Proxy) != "http://proxy.example:3128" {
		t.Errorf("%v", s.Agent.Proxy)
	}
	for _, want := range []node.Spec{{Name: "hub", Hub: &node.Hub{}}, {Name: "workshop", Hub: &node.Hub{Agent: "shop"}}} {
		found := false
		for _, spec := range s.Nodes {
			found = found || spec.Equal(want)
		}
		if !found {
			t.Errorf("there is no node %q", want.Name)
		}
	}
	cfg, err = config.Parse("x", []byte("[hub]\n[agent]\n[agents.a]\nports = \"none\""))
	if err != nil {
		t.Fatal(err)
	}
	ports, _ := forward.ParsePorts("1024-65535")
	want := &config.Hub{Ports: ports, Resume: 5 * time.Minute, Transports: []string{"quic", "tls", "wss"}, MaxAgents: 10_000}
	want.Listen, _ = forward.ParseListen("tcp+udp/443")
	if !cfg.Settings.Hub.Equal(want) || !cfg.Settings.Agents[0].Equal(config.AgentLimits{Name: "a", NoPorts: true}) {
		t.Errorf("%+v", cfg.Settings.Hub)
	}
	if a := cfg.Settings.Agent; !a.Equal(&config.Agent{Transports: want.Transports}) {
		t.Errorf("%+v", a)
	}
}

// TestSettingsDiffer: each key of the tables matters to Equal.
func TestSettingsDiffer(t *testing.T) {
	read := func(text string) config.Settings {
		cfg, err := config.Parse("x", []byte(text))
		if err != nil {
			t.Fatalf("%v in %s", err, text)
		}
		return cfg.Settings
	}
	for table, keys := range map[string][]string{
		"[hub]": {"", `listen = "1"`, `address = "h"`, `ports = "80"`, `resume = "1m"`, `transports = "tls"`, "max_agents = 1"},
		"[hub]\n[agents.a]": {
			"", `ports = "80"`, `ports = "none"`, `hosts = "h.example"`, `targets = "h"`, `reach = "b"`, `bandwidth = "1MB"`, "max_sessions = 1", "max_forwards = 1",
			"expires = 2030-01-01T00:00:00Z",
		},
		"[agent]":                        {"", `hub = "h"`, `name = "a"`, `allow = "h"`, `proxy = "none"`, `transports = "tls"`},
		"[agent]\n[node.a]\nhub = \"b\"": {"", "[node.b]\nhub = \"c\""},
	} {
		var all []config.Settings
		for _, key := range keys {
			all = append(all, read(table+"\n"+key))
		}
		for i, a := range all {
			for j, b := range all {
				if a.Equal(b) != (i == j) {
					t.Errorf("%s: %q and %q: equal is %t", table, keys[i], keys[j], i != j)
				}
			}
		}
	}
}

func TestHubAddress(t *testing.T) {
	for _, good := range []string{"hub", "hub.example.com", "hub.example.com:443", "192.0.2.1", "192.0.2.1:8443", "2001:db8::1", "[2001:db8::1]:443"} {
		if _, err := config.Parse("x", []byte("[agent]\nhub = \""+good+"\"")); err != nil {
			t.Errorf("%s: %v", good, err)
		}
	}
	for _, bad := range []string{"hub:", "hub:0", "hub:99999", ":443", "0.0.0.0:443", "[::]:443", "a b", "https://hub", "hub:443:443", "unix:/run/a"} {
		if _, err := config.Parse("x", []byte("[agent]\nhub = \""+bad+"\"")); err == nil {
			t.Errorf("%q passed", bad)
		}
	}
}

// TestProxySecret: what is wrong with a proxy does not say its password, wherever that stands.
func TestProxySecret(t *testing.T) {
	for _, proxy := range []string{"ftp://anna:Sesame@proxy", "http://anna:Sesame@proxy/x", "http://anna:Sesame@proxy:99999", "http://anna:Ses%ame@proxy", "anna:Sesame@proxy"} {
		_, err := config.Parse("x", []byte("[agent]\nproxy = \""+proxy+"\""))
		if err == nil {
			t.Errorf("%q passed", proxy)
			continue
		}
		if strings.Contains(render(t, err), "Ses") {
			t.Errorf("%v", err)
		}
	}
	var b strings.Builder
	slog.New(slog.NewTextHandler(&b, nil)).Info("x", "agent", &config.Agent{Proxy: "http://anna:Sesame@proxy"})
	if strings.Contains(b.String(), "Sesame") {
		t.Error(b.String())
	}
}

// TestAgentNodes: forwards name the agents of a hub whether they are declared or not, and agents their hub.
func TestAgentNodes(t *testing.T) {
	hub, err := config.Parse("x", []byte("[hub]\n[node.bastion]\nssh = \"bastion\"\njump = \"home\""))
	if err != nil {
		t.Fatal(err)
	}
	agent, err := config.Parse("x", []byte("[agent]\n[node.office]\nhub = \"office\""))
	if err != nil {
		t.Fatal(err)
	}
	to := config.Strings{"127.0.0.1:80"}
	for _, test := range []struct {
		s     config.Settings
		spec  config.Spec
		field string // of the error; "" is none
	}{
		{hub.Settings, config.Spec{Listen: "tcp+udp/80", To: to, Via: "home"}, ""},
		{hub.Settings, config.Spec{Listen: "80", To: to, Via: "hub"}, "via"},
		{hub.Settings, config.Spec{Listen: "udp/80", To: to, Via: "bastion"}, "listen"},
		{hub.Settings, config.Spec{Listen: "80", To: to, At: "bastion", Via: "home"}, ""},
		{hub.Settings, config.Spec{Listen: "80", To: to, At: "home"}, "at"},
		{hub.Settings, config.Spec{Listen: "80", To: config.Strings{"unix:/run/a"}, Via: "home"}, "to"},
		{agent.Settings, config.Spec{Listen: "tcp+udp/80", To: to, At: "hub"}, ""},
		{agent.Settings, config.Spec{Listen: "udp/80", To: to, Via: "office"}, ""},
		{agent.Settings, config.Spec{Listen: "80", To: to, Via: "home"}, "via"},
		{agent.Settings, config.Spec{Listen: "80", To: to, At: "office"}, "at"},
		{agent.Settings, config.Spec{Listen: "80", To: config.Strings{"192.168.1.10"}, At: "hub", Source: "keep"}, ""},
		{agent.Settings, config.Spec{Listen: "127.0.0.1:1080", To: config.Strings{"socks"}, Via: "office"}, ""},
	} {
		f, err := test.spec.Forward("a", forward.OriginAPI)
		if err != nil {
			t.Fatal(err)
		}
		err = config.CheckNodes(f, test.s)
		var field *forward.FieldError
		if errors.As(err, &field); (field == nil) != (test.field == "") || field != nil && field.Field != test.field {
			t.Errorf("%+v: %v, want an error about %q", test.spec, err, test.field)
		}
		if hint := config.Hint(err); (err != nil) != (hint != "") {
			t.Errorf("%v: hint %q", err, hint)
		}
	}
}

func TestLimits(t *testing.T) {
	ports, _ := forward.ParsePorts("80,443")
	got, err := config.Limits{Ports: "80,443", MaxForwards: 5, Expires: "2030-01-01T00:00:00Z"}.Agent("")
	want := config.AgentLimits{Ports: ports, MaxForwards: 5, Expires: time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)}
	if err != nil || !got.Equal(want) {
		t.Errorf("%+v, %v", got, err)
	}
	for _, bad := range []config.Limits{{Ports: "x"}, {Hosts: config.Strings{"*"}}, {Targets: config.Strings{""}}, {MaxSessions: -1}, {Expires: "soon"}, {Reach: config.Strings{"a b"}}} {
		if _, err := bad.Agent("home"); err == nil || config.HintLimits(err) == "" {
			t.Errorf("%+v: %v", bad, err)
		}
	}
	for _, name := range []string{"hub", "none"} {
		if _, err := (config.Limits{}).Agent(name); err == nil {
			t.Errorf("an agent is called %s", name)
		}
	}
	// What is left out says nothing, and an empty list says none.
	for _, said := range []config.Strings{{}, {"none"}} {
		got, err := config.Limits{Hosts: said, Targets: said, Reach: said}.Agent("a")
		if err != nil || got.Hosts == nil || got.Targets == nil || got.Reach == nil || len(got.Hosts)+len(got.Targets)+len(got.Reach) > 0 {
			t.Errorf("%q: %+v, %v", said, got, err)
		}
		if got.Equal(config.AgentLimits{Name: "a"}) {
			t.Errorf("%q is as good as nothing", said)
		}
	}
	cfg, err := config.Parse("x", []byte("[hub]\n[agents.a]\nhosts = []\ntargets = \"none\"\nreach = [\"none\"]\n[agents.b]"))
	if err != nil {
		t.Fatal(err)
	}
	if a := cfg.Settings.Agents; a[0].Hosts == nil || a[0].Targets == nil || a[0].Reach == nil || a[1].Hosts != nil || a[1].Targets != nil || a[1].Reach != nil {
		t.Errorf("%+v", a)
	}
}

func TestCheckHubPort(t *testing.T) {
	every, err := config.NewHub("443", "")
	if err != nil {
		t.Fatal(err)
	}
	one, err := config.NewHub("192.0.2.1:443", "")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		listen, host, at string
		every, one       bool // whether it may stand beside that hub
	}{
		{"443", "", "", false, false}, {"443", "a.example", "", true, true}, {"80", "", "", true, true}, {"440-450", "", "", false, false},
		{"192.0.2.1:443", "", "", false, false}, {"192.0.2.2:443", "", "", false, true}, {"udp/443", "", "", false, false}, {"443", "", "hub", true, true},
	} {
		s := config.Spec{Listen: c.listen, To: config.Strings{"10.0.0.1"}, At: c.at}
		if c.host != "" {
			s.Host, s.To = config.Strings{c.host}, config.Strings{"10.0.0.1:80"}
		}
		f, err := s.Forward("f", forward.OriginAPI)
		if err != nil {
			t.Fatal(err)
		}
		if err := config.CheckHubPort(f, every); (err == nil) != c.every {
			t.Errorf("%+v: %v", c, err)
		}
		if err := config.CheckHubPort(f, one); (err == nil) != c.one {
			t.Errorf("%+v beside one address: %v", c, err)
		}
		if config.CheckHubPort(f, nil) != nil {
			t.Error("there is no hub")
		}
	}
}
