package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fairlead-net/fairlead/api"
	"github.com/fairlead-net/fairlead/config"
	"github.com/fairlead-net/fairlead/forward"
	"github.com/fairlead-net/fairlead/hub"
	"github.com/fairlead-net/fairlead/internal/testport"
	"github.com/fairlead-net/fairlead/store"
)

// settingsOf reads a file's settings.
func settingsOf(t *testing.T, format string, args ...any) *config.Config {
	t.Helper()
	cfg, err := config.Parse("x", fmt.Appendf(nil, format, args...))
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

// runEngine runs an engine with what a file says for the length of the test.
func runEngine(t *testing.T, state string, cfg *config.Config) *engine {
	t.Helper()
	e := newEngine(engineOptions{nftables: "fairlead_test", store: store.Memory(), state: state, log: slog.New(slog.DiscardHandler)})
	if _, err := e.table.ReplaceFile(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() {
		if err := e.run(ctx); err != nil && !errors.Is(err, context.Canceled) {
			t.Errorf("the engine: %v", err)
		}
	})
	t.Cleanup(func() { cancel(); running.Wait() })
	<-e.table.Ready()
	e.settings.opened(t.Context())
	return e
}

func (e *engine) waitState(t *testing.T, name string, want func(state forward.State, detail string) bool) {
	t.Helper()
	last := ""
	if !retry(func() bool {
		for _, s := range e.table.Snapshot() {
			if s.Forward.Name == name {
				last = s.State.String() + ": " + s.Detail
				return want(s.State, s.Detail)
			}
		}
		last = "it is not there"
		return false
	}) {
		t.Fatalf("%s: %s", name, last)
	}
}

func isUp(s forward.State, _ string) bool { return s == forward.StateUp }

// anyPort is a port that nobody has, of TCP and UDP.
func anyPort(t *testing.T) string {
	t.Helper()
	port, err := testport.Free()
	if err != nil {
		t.Fatal(err)
	}
	return port
}

func echo(t *testing.T, answer string) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			_, _ = io.WriteString(c, answer)
			c.Close()
		}
	}()
	return ln.Addr().String()
}

func hears(addr string) string {
	c, err := net.DialTimeout("tcp", addr, patience)
	if err != nil {
		return ""
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(patience))
	all, _ := io.ReadAll(c)
	return string(all)
}

// TestHubAndAgent has two daemons in one process, and changes what they may while they run.
func TestHubAndAgent(t *testing.T) {
	becomesLeakFree(t)
	port, at, managed := anyPort(t), anyPort(t), anyPort(t)
	here := echo(t, "from the agent's side")
	hubFile := fmt.Sprintf("[hub]\nlisten = \"127.0.0.1:%s\"\n[forward.managed]\nlisten = \"127.0.0.1:%s\"\nto = %q\nvia = \"home\"\n", port, managed, here)
	there := runEngine(t, t.TempDir(), settingsOf(t, "%s", hubFile))
	there.waitState(t, "managed", func(s forward.State, why string) bool {
		return s == forward.StateWaiting && strings.Contains(why, "fairlead agents token --name home")
	})

	state := t.TempDir()
	token, err := there.settings.hub.Token(t.Context(), api.TokenRequest{Name: "home"})
	if err != nil || token.Hub != "127.0.0.1:"+port || token.Expires == nil {
		t.Fatalf("%+v, %v", token, err)
	}
	parsed, err := hub.ParseToken(string(token.Token))
	if err != nil {
		t.Fatal(err)
	}
	m, err := join(t.Context(), state, token.Hub, parsed, "", &config.Agent{}, slog.New(slog.DiscardHandler))
	if err != nil || m.Name != "home" {
		t.Fatalf("%+v, %v", m, err)
	}
	agentFile := fmt.Sprintf("[forward.shown]\nat = \"hub\"\nlisten = \"127.0.0.1:%s\"\nto = %q\n[agent]\n", at, here)
	agent := runEngine(t, state, settingsOf(t, "%s", agentFile))
	agent.waitState(t, "shown", isUp)
	there.waitState(t, "managed", isUp)
	shown, over := "127.0.0.1:"+at, "127.0.0.1:"+managed
	if got := hears(shown); got != "from the agent's side" {
		t.Errorf("%q", got)
	}
	if got := hears(over); got != "" {
		t.Errorf("the hub has dialled what nobody allows: %q", got)
	}

	// What is allowed changes without a new session.
	session := agent.settings.agent.hub()
	change := func(e *engine, cfg *config.Config) {
		t.Helper()
		if _, err := e.table.ReplaceFile(t.Context(), cfg); err != nil {
			t.Fatal(err)
		}
	}
	change(agent, settingsOf(t, "%sallow = %q", agentFile, here))
	if got := hears(over); got != "from the agent's side" {
		t.Errorf("%q", got)
	}
	if agent.settings.agent.hub() != session {
		t.Error("the agent began anew")
	}
	change(there, settingsOf(t, "%s[agents.home]\nports = \"none\"", hubFile))
	agent.waitState(t, "shown", func(s forward.State, why string) bool { return s == forward.StateWaiting && why != "" })
	if got := hears(shown); got != "" {
		t.Errorf("a port that was taken away: %q", got)
	}
	change(there, settingsOf(t, "%s", hubFile))
	agent.waitState(t, "shown", isUp)
	list, err := there.settings.hub.Agents()
	if err != nil || len(list) != 1 || list[0].State != "up" || len(list[0].Forwards) != 1 || list[0].Version != version() || list[0].Limits.Ports != config.DefaultHubPorts {
		t.Errorf("%+v, %v", list, err)
	}
	// Who is no agent any more has no hub.
	change(agent, settingsOf(t, ""))
	if !retry(func() bool { list, err := there.settings.hub.Agents(); return err == nil && list[0].State == "away" }) {
		t.Error("the agent is still there")
	}
	if err := there.settings.hub.Kick("nobody"); err == nil || !strings.Contains(err.Error(), `"nobody"`) {
		t.Error(err)
	}
	change(there, settingsOf(t, ""))
	if _, err := there.settings.hub.Agents(); err == nil {
		t.Error("there is a hub")
	}
}

// becomesLeakFree fails a test that leaves descriptors open.
func becomesLeakFree(t *testing.T) {
	count := func() int {
		files, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			return 0
		}
		return len(files)
	}
	before := count()
	t.Cleanup(func() {
		if !retry(func() bool { return count() <= before+2 }) { // the poller and the like are made once
			t.Errorf("%d descriptors were open before, and %d are now", before, count())
		}
	})
}

// TestAgentWithoutHub: an agent says what it lacks, and so do its forwards.
func TestAgentWithoutHub(t *testing.T) {
	e := runEngine(t, t.TempDir(), settingsOf(t, "[agent]\n[forward.a]\nat = \"hub\"\nlisten = \"8080\"\nto = \"127.0.0.1:1\""))
	if !retry(func() bool { return strings.Contains(e.settings.agent.problem(), errNoMember.Error()) }) {
		t.Errorf("%q", e.settings.agent.problem())
	}
	e.waitState(t, "a", func(s forward.State, why string) bool {
		return s == forward.StateWaiting && why != ""
	})
}

// TestHubLimits: as many agents as there may be, and none by a transport that is not taken.
func TestHubLimits(t *testing.T) {
	e := runEngine(t, t.TempDir(), settingsOf(t, "[hub]\nlisten = \"127.0.0.1:%s\"\nmax_agents = 1\ntransports = \"wss\"", anyPort(t)))
	token, err := e.settings.hub.Token(t.Context(), api.TokenRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := e.settings.hub.Token(t.Context(), api.TokenRequest{}); err == nil || !strings.Contains(err.Error(), "1 is the most") {
		t.Error(err)
	}
	parsed, err := hub.ParseToken(string(token.Token))
	if err != nil {
		t.Fatal(err)
	}
	for transport, good := range map[string]bool{"tls": false, "wss": true} {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		_, err := join(ctx, t.TempDir(), token.Hub, parsed, "", &config.Agent{Transports: []string{transport}}, slog.New(slog.DiscardHandler))
		cancel()
		if (err == nil) != good {
			t.Errorf("%s: %v", transport, err)
		}
	}
	for _, r := range []api.TokenRequest{{Valid: -1}, {Valid: 1 << 30}, {Limits: config.Limits{Ports: "x"}}} {
		if _, err := e.settings.hub.Token(t.Context(), r); err == nil {
			t.Errorf("%+v passed", r)
		}
	}
}

// TestHubPortTaken: a hub that cannot listen says so.
func TestHubPortTaken(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	e := runEngine(t, t.TempDir(), settingsOf(t, "[hub]\nlisten = %q", ln.Addr()))
	if p := e.settings.hub.problem(); !strings.Contains(p, "in use") {
		t.Errorf("%q", p)
	}
	if _, err := e.settings.hub.Agents(); err == nil || !strings.Contains(err.Error(), "does not run") {
		t.Error(err)
	}
}

func TestMembership(t *testing.T) {
	dir := t.TempDir()
	if _, _, err := readMembership(dir); !errors.Is(err, errNoMember) {
		t.Error(err)
	}
	m := membership{Hub: "hub.example.com:443", Key: strings.Repeat("A", 43), Name: "home"}
	if err := writeMembership(dir, m); err != nil {
		t.Fatal(err)
	}
	if got, key, err := readMembership(dir); err != nil || got != m || !key.IsZero() {
		t.Errorf("%+v, %v, %v", got, key, err)
	}
	if err := giveState(dir, os.Getuid(), os.Getgid()); err != nil {
		t.Errorf("the daemon's own files are another's: %v", err)
	}
	for _, text := range []string{"", "{", `{"key":"x"}`} {
		if err := os.WriteFile(filepath.Join(dir, agentFile), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, _, err := readMembership(dir); err == nil || errors.Is(err, errNoMember) {
			t.Errorf("%q: %v", text, err)
		}
	}
	release, err := holdAgent(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := holdAgent(dir); !errors.Is(err, errAgentRuns) {
		t.Errorf("a second agent: %v", err)
	}
	if err := release(); err != nil {
		t.Error(err)
	}
	if release, err = holdAgent(dir); err != nil {
		t.Error(err)
	} else {
		_ = release()
	}
}

func TestHubAddress(t *testing.T) {
	for _, c := range [][3]string{
		{"", "hub.example.com", "hub.example.com:443"}, {"8443", "hub.example.com", "hub.example.com:8443"}, {"8443", "hub.example.com:443", "hub.example.com:443"},
		{"192.0.2.1:8443", "", "192.0.2.1:8443"}, {"", "2001:db8::1", "[2001:db8::1]:443"}, {"", "[2001:db8::1]:8443", "[2001:db8::1]:8443"},
		{"[2001:db8::1]:1", "", "[2001:db8::1]:1"},
	} {
		h, err := config.NewHub(c[0], c[1])
		if err != nil {
			t.Fatal(err)
		}
		if got := hubAddress(h); got != c[2] {
			t.Errorf("%q, %q: %s, want %s", c[0], c[1], got, c[2])
		}
	}
	h, _ := config.NewHub("", "")
	if host, port, err := net.SplitHostPort(hubAddress(h)); err != nil || net.ParseIP(host) == nil || port != "443" {
		t.Error(hubAddress(h))
	}
	for host, private := range map[string]bool{"10.1.2.3": true, "100.64.0.1": true, "127.0.0.1": true, "fe80::1": true, "203.0.113.1": false, "hub.example.com": false} {
		if isPrivate(host) != private {
			t.Error(host)
		}
	}
}

func TestAgentNews(t *testing.T) {
	up := api.Agent{Name: "home", State: "up", Transport: "quic", Address: "198.51.100.7:4", Bytes: api.Bytes{In: 5}}
	moved := up
	moved.Address, moved.Bytes.In, moved.Sessions = "198.51.100.8:4", 1005, 2
	moved.Forwards = []api.AgentListen{{Name: "a", Listen: "tcp/80"}}
	away := api.Agent{Name: "home", State: "waiting", Detail: "the line\x1b is cut"}
	for _, c := range []struct {
		before, now []api.Agent
		want        string
	}{
		{nil, []api.Agent{up}, "home is up: quic from 198.51.100.7:4"},
		{[]api.Agent{up}, []api.Agent{up}, ""},
		{[]api.Agent{up}, []api.Agent{moved}, "home is up: quic from 198.51.100.8:4\nhome listens at tcp/80"},
		{[]api.Agent{up}, []api.Agent{away}, "home is waiting: the line? is cut"},
		{[]api.Agent{up}, nil, "home is no agent any more"},
		{nil, []api.Agent{away}, ""},
	} {
		before := map[string]api.Agent{}
		for _, a := range c.before {
			before[a.Name] = a
		}
		if got := strings.Join(agentNews(before, c.now), "\n"); got != c.want {
			t.Errorf("%q, want %q", got, c.want)
		}
	}
	if got := hubLine(map[string]api.Agent{"home": up}, []api.Agent{moved}, time.Second); got != "1 of 1 agents up, 2 open, in 1.0 kB/s, out 0 B/s" {
		t.Error(got)
	}
}

func TestSharedForwards(t *testing.T) {
	for _, c := range []struct {
		how     shareFlags
		targets string
		want    string // with one line for each; "" is an error
	}{
		{shareFlags{}, "8080", "tcp/0 -> 127.0.0.1:8080"},
		{shareFlags{}, "192.168.1.20:80", "tcp/0 -> 192.168.1.20:80"},
		{shareFlags{}, "nas:80", "tcp/0 -> nas:80"},
		{shareFlags{udp: true, listen: "5353"}, "53", "udp/5353 -> 127.0.0.1:53"},
		{shareFlags{}, "8080 nas:22", "tcp/0 -> 127.0.0.1:8080\ntcp/0 -> nas:22"},
		{shareFlags{hosts: []string{"Blog.example.com"}}, "3000", "tcp/8443 for blog.example.com pass -> 127.0.0.1:3000"},
		{shareFlags{hosts: []string{"Blog.example.com"}, listen: "443"}, "3000", "tcp/443 for blog.example.com acme -> 127.0.0.1:3000"},
		{shareFlags{hosts: []string{"blog.example.com"}, tls: "pass"}, "3000", "tcp/8443 for blog.example.com pass -> 127.0.0.1:3000"},
		{shareFlags{hosts: []string{"blog.example.com"}, listen: "80"}, "3000", "tcp/80 for blog.example.com pass -> 127.0.0.1:3000"},
		{shareFlags{hosts: []string{"*.example.com"}, tls: "pass", listen: "443"}, "3000", "tcp/443 for *.example.com pass -> 127.0.0.1:3000"},
		{shareFlags{hosts: []string{"*.example.com"}, listen: "443"}, "3000", ""},
		{shareFlags{hosts: []string{"https://example.com"}}, "3000", ""},
		{shareFlags{hosts: []string{"blog.example.com"}, udp: true}, "3000", ""},
		{shareFlags{hosts: []string{"blog.example.com"}}, "3000 3001", ""},
		{shareFlags{listen: "8000"}, "3000 3001", ""},
		{shareFlags{tls: "pass"}, "3000", ""},
		{shareFlags{}, "3000 127.0.0.1:3000", ""},
		{shareFlags{}, "0", ""}, {shareFlags{}, "70000", ""}, {shareFlags{}, "host", ""}, {shareFlags{}, "8080-8090", ""}, {shareFlags{}, "socks", ""},
		{shareFlags{}, "unix:/run/a", ""}, {shareFlags{listen: "81,82"}, "80", ""}, {shareFlags{listen: "*"}, "80", ""},
		{shareFlags{listen: "unix:/run/a"}, "80", ""}, {shareFlags{listen: "udp/81"}, "80", ""},
	} {
		list, err := c.how.forwards(strings.Fields(c.targets), "8443")
		var lines []string
		for _, f := range list {
			line := f.Listen.String()
			if len(f.Hosts) > 0 {
				line += " for " + strings.Join(f.Hosts, ",") + " " + f.Site.TLS.String()
			}
			lines = append(lines, line+" -> "+f.To[0].String())
		}
		if got := strings.Join(lines, "\n"); got != c.want || (err == nil) != (c.want != "") {
			t.Errorf("%+v %s: %q, %v", c.how, c.targets, got, err)
		}
	}
}

func TestSiteURL(t *testing.T) {
	for _, c := range []struct {
		port uint16
		ends forward.TLS
		want string
	}{
		{443, forward.TLSACME, "https://a.example"}, {443, forward.TLSPass, "https://a.example"}, {80, forward.TLSPass, "http://a.example"},
		{80, forward.TLSACME, "http://a.example"}, {8443, forward.TLSACME, "https://a.example:8443"}, {8080, forward.TLSPass, "http://a.example:8080"},
	} {
		if got := siteURL("a.example", c.port, c.ends); got != c.want {
			t.Errorf("%+v: %s", c, got)
		}
	}
}

// TestBestAddress: a hub without a route to the internet is called by an address that others may reach it by.
func TestBestAddress(t *testing.T) {
	for want, have := range map[string][]string{
		"127.0.0.1":    {"127.0.0.1/8", "::1/128", "fe80::1/64", "169.254.3.4/16"},
		"203.0.113.1":  {"127.0.0.1/8", "10.0.0.1/8", "2001:db8::1/64", "203.0.113.1/24"},
		"10.0.0.1":     {"::1/128", "fd00::1/64", "10.0.0.1/8", "192.168.1.1/24"},
		"2001:db8::1":  {"127.0.0.1/8", "2001:db8::1/64", "10.0.0.1/8"},
		"fd00::1":      {"fe80::1/64", "fd00::1/64"},
		"198.51.100.1": {"100.64.0.1/10", "198.51.100.1/24"},
	} {
		got := bestAddress(func() (list []net.Addr, err error) {
			for _, text := range have {
				ip, network, err := net.ParseCIDR(text)
				if err != nil {
					t.Fatal(err)
				}
				list = append(list, &net.IPNet{IP: ip, Mask: network.Mask})
			}
			return list, nil
		})
		if got.String() != want {
			t.Errorf("of %q %v, want %s", have, got, want)
		}
	}
}
