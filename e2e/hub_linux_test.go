package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/fairlead-net/fairlead/internal/netlab"
)

// TestShare is what a newcomer types, on both sides.
func TestShare(t *testing.T) {
	needs(t, "nginx", "curl", "dig", "dnsmasq", "ip")
	l := newTunnelLab(t)
	log := nginx(t, l.home, 8080)
	dnsmasq(t, l.home, 5353)
	hubDir, homeDir := t.TempDir(), t.TempDir()
	at := func(dir string, args ...string) []string {
		return append(args, "--socket", filepath.Join(dir, "s"), "--state", filepath.Join(dir, "state"))
	}
	hub := l.hub.Start(t, binary, at(hubDir, "hub", "--address", hubAddr)...)
	line := hub.WaitOutput(t, `fairlead join \S+ \S+`)
	join := strings.Fields(regexp.MustCompile(`join \S+ \S+`).FindString(line))
	said := l.home.Run(t, binary, at(homeDir, append(join, "--name", "home")...)...)
	if !strings.Contains(said, "fairlead share") {
		t.Errorf("join does not say what to do next: %q", said)
	}
	if out, err := l.office.Command(t.Context(), binary, at(t.TempDir(), join...)...).CombinedOutput(); err == nil {
		t.Errorf("a token was good twice: %s", out)
	}

	share := l.home.Start(t, binary, at(homeDir, "share", "8080", "--listen", "8000")...)
	share.WaitOutput(t, regexp.QuoteMeta(hubAddr+":8000"))
	if got := l.curl("http://" + hubAddr + ":8000/"); !strings.Contains(got, "hello from home") {
		t.Errorf("the visitor got %q", got)
	}
	_ = logged(t, log)
	if out, err := l.home.Command(t.Context(), binary, at(homeDir, "share", "8081")...).CombinedOutput(); err == nil || !strings.Contains(string(out), "hint:") {
		t.Errorf("two agents of one key: %v, %s", err, out)
	}
	if err := share.Stop(); err != nil {
		t.Error(err)
	}
	waitFor(t, "nobody listens at the hub", func() bool { return !l.hub.Listening("tcp", 8000) })

	// One that shares what does not run yet is told so, and that it does.
	share = l.home.Start(t, binary, at(homeDir, "share", "8082", "--listen", "8002")...)
	share.WaitOutput(t, regexp.QuoteMeta(hubAddr+":8002"))
	share.WaitOutput(t, `nothing answers at 127\.0\.0\.1:8082 yet: connection refused`)
	if out, err := l.visitor.Command(t.Context(), "curl", "-sS", "--max-time", "30", "http://"+hubAddr+":8002/").CombinedOutput(); err == nil {
		t.Errorf("a visitor of nothing got %q", out)
	}
	share.WaitOutput(t, `1 visitor was turned away: 127\.0\.0\.1:8082 does not answer: connection refused`)
	nginx(t, l.home, 8082)
	share.WaitOutput(t, `127\.0\.0\.1:8082 answers now`)
	if err := share.Stop(); err != nil {
		t.Error(err)
	}

	share = l.home.Start(t, binary, at(homeDir, "share", "5353", "--udp")...)
	shown := share.WaitOutput(t, `udp://`+regexp.QuoteMeta(hubAddr)+`:\d+`)
	port := regexp.MustCompile(`udp://` + regexp.QuoteMeta(hubAddr) + `:(\d+)`).FindStringSubmatch(shown)[1]
	if got := l.visitor.Run(t, "dig", "+short", "+time=3", "+tries=2", "-p", port, "@"+hubAddr, "n7.example", "A"); got != "198.51.100.7\n" {
		t.Errorf("dig got %q", got)
	}
	if err := share.Stop(); err != nil {
		t.Error(err)
	}
	if err := hub.Stop(); err != nil {
		t.Error(err)
	}
}

// TestShareByName: agents ask for names at the hub's own port, and visitors call what was printed.
func TestShareByName(t *testing.T) {
	needs(t, "nginx", "curl", "python3")
	l := newTunnelLab(t)
	ca := pebble(t, l.office, officeAddr, hubAddr)
	hub := up(t, l.hub, hubFile+fmt.Sprintf("[acme]\nemail = \"admin@example.com\"\ndirectory = %q\nca = %q\n", ca.directory, ca.ca))
	dir := t.TempDir()
	cert, key := selfSigned(t, dir, "own", "own.example.com")
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	site(t, l.home, "blog", 3000, "", "")
	site(t, l.home, "own", 8443, cert, key)
	site(t, l.nat, "shop", 3000, "", "")
	visit := func(url string, args ...string) string {
		t.Helper()
		name := strings.Split(url, "/")[2]
		out, _ := l.visitor.Command(t.Context(), "curl", append(append([]string{"-m", "10"}, resolveAt(name, hubAddr)...), append(args, url)...)...).CombinedOutput()
		return string(out)
	}
	start := func(n *netlab.Node, dir string, args ...string) *netlab.Process {
		return n.Start(t, binary, append(append([]string{"share"}, args...), "--socket", filepath.Join(dir, "s"), "--state", filepath.Join(dir, "state"))...)
	}
	join := func(n *netlab.Node, name string, flags ...string) string {
		dir := t.TempDir()
		n.Run(t, binary, "join", hubAddr+":443", hub.token(name, flags...), "--socket", filepath.Join(dir, "s"), "--state", filepath.Join(dir, "state"))
		return dir
	}
	home := join(l.home, "home", "--ports", "none", "--hosts", "blog.example.com,own.example.com")
	shop := join(l.nat, "shop", "--hosts", "shop.example.com")

	// TLS that ends at the hub, with a certificate that it gets when the agent asks.
	share := start(l.home, home, "3000", "--host", "blog.example.com")
	share.WaitOutput(t, `https://blog\.example\.com -> 127\.0\.0\.1:3000`)
	want := "site=blog host=blog.example.com for=" + visitorAddr + " proto=https"
	waitUpTo(t, certificateTime, "the site is there", func() bool { return strings.Contains(visit("https://blog.example.com/", "--cacert", ca.root), want) })
	other := start(l.nat, shop, "3000", "--host", "shop.example.com")
	other.WaitOutput(t, `https://shop\.example\.com -> `)
	waitUpTo(t, certificateTime, "the other agent's site is there", func() bool {
		return strings.Contains(visit("https://shop.example.com/", "--cacert", ca.root), "site=shop")
	})
	if out := visit("https://blog.example.com/", "--cacert", ca.root); !strings.Contains(out, want) {
		t.Error(out)
	}
	if a := hub.agents()["home"]; len(a.Forwards) != 1 || a.Forwards[0].Listen != "tcp/443 for blog.example.com" {
		t.Errorf("%+v", a)
	}
	if err := share.Stop(); err != nil {
		t.Error(err)
	}
	waitFor(t, "nobody has the name", func() bool { return strings.Contains(visit("https://blog.example.com/", "-k", "-f"), "404") })

	// TLS that passes, at the same port; HTTP, at another one; a name that is not permitted.
	share = start(l.home, home, "8443", "--host", "own.example.com", "--tls", "pass")
	share.WaitOutput(t, `https://own\.example\.com -> `)
	waitFor(t, "the target's own certificate", func() bool { return strings.Contains(visit("https://own.example.com/", "--cacert", cert), "site=own") })
	if err := share.Stop(); err != nil {
		t.Error(err)
	}
	share = start(l.home, home, "3000", "--host", "blog.example.com", "--listen", "80", "--json")
	share.WaitOutput(t, `\{"state":"ready","url":"http://blog\.example\.com","to":"127\.0\.0\.1:3000"\}`)
	waitFor(t, "HTTP", func() bool {
		return strings.Contains(visit("http://blog.example.com/"), "site=blog host=blog.example.com")
	})
	if err := share.Stop(); err != nil {
		t.Error(err)
	}
	args := []string{"share", "3000", "--host", "shop.example.com", "--socket", filepath.Join(home, "s"), "--state", filepath.Join(home, "state")}
	if out, err := l.home.Command(t.Context(), binary, args...).CombinedOutput(); err == nil || !strings.Contains(string(out), "the name shop.example.com is not permitted; the names are blog.example.com, own.example.com") {
		t.Errorf("%v, %s", err, out)
	}

	// The same as a service; what may be changed at the hub takes effect at once.
	d := &daemon{t: t, node: l.home, dir: home}
	d.write("[agent]\n[forward.blog]\nat = \"hub\"\nlisten = \"80,443\"\nhost = \"blog.example.com\"\ntls = \"acme\"\nredirect_https = true\nto = \"127.0.0.1:3000\"\n")
	d.start()
	d.wait("the forward is up", func() bool { return d.status()["blog"].State == "up" })
	waitFor(t, "the site is there", func() bool { return strings.Contains(visit("https://blog.example.com/", "--cacert", ca.root), want) })
	waitFor(t, "it is led to https", func() bool {
		return visit("http://blog.example.com/x", "-o", "/dev/null", "-w", "%{http_code} %{redirect_url}") == "308 https://blog.example.com/x"
	})
	hub.write(read(t, hub.file()) + "[agents.home]\nhosts = \"own.example.com\"\n")
	hub.run("apply", "-c", hub.file())
	d.wait("the forward waits", func() bool {
		f := d.status()["blog"]
		return f.State == "waiting" && strings.Contains(f.Detail, "is not permitted")
	})
	waitFor(t, "nobody has the name", func() bool { return strings.Contains(visit("https://blog.example.com/", "-k", "-f"), "404") })
}

const hubFile = `
[hub]
address = "203.0.113.1"
`

const webAtHub = `
[forward.web]
at = "hub"
listen = "8000"
to = "127.0.0.1:8080"
`

// TestTunnelSurvives cuts the line for some seconds, and gives the home another address, in the middle of a download: the visitor
// notices a pause.
func TestTunnelSurvives(t *testing.T) {
	needs(t, "nginx", "curl", "ip")
	for _, transport := range []string{"quic", "tls", "wss"} {
		t.Run(transport, func(t *testing.T) {
			t.Parallel()
			l := newTunnelLab(t)
			sum := bigFile(t, nginx(t, l.home, 8080), 64)
			hub := up(t, l.hub, hubFile)
			agent := agentUp(t, hub, l.home, "home", fmt.Sprintf("transports = %q\n", transport)+webAtHub)
			waitFor(t, "the hub listens", func() bool { return l.hub.Listening("tcp", 8000) })
			d := l.download(8000, 12<<20)
			d.reaches(4 << 20)
			l.nat.Run(t, "ip", "link", "set", "line", "down")
			time.Sleep(5 * time.Second) // for which nothing gets through
			l.nat.Run(t, "ip", "link", "set", "line", "up")
			d.reaches(8 << 20)
			l.readdress(homeAddr, "100.64.0.11")
			d.reaches(12 << 20)
			// Nobody reads on: there is less in all the buffers on the way than is left of the file.
			before := hub.agents()["home"].Bytes.Out
			d.finish(sum)
			if after := hub.agents()["home"].Bytes.Out; after-before < 1<<20 {
				t.Errorf("only %d bytes came by way of the new address", after-before)
			}
			if t.Failed() {
				t.Logf("hub:\n%s\nagent:\n%s", tail(hub.proc.Output()), tail(agent.proc.Output()))
			}
			if a := hub.agents()["home"]; a.State != "up" || a.Transport != transport || a.Version == "" {
				t.Errorf("%+v", a)
			}
		})
	}
}

func tail(s string) string {
	if len(s) > 4000 {
		return "…" + s[len(s)-4000:]
	}
	return s
}

// TestTunnelKilled ends each process in the hard way: the next connections work as soon as there is another.
func TestTunnelKilled(t *testing.T) {
	needs(t, "nginx", "curl")
	l := newTunnelLab(t)
	nginx(t, l.home, 8080)
	hub := up(t, l.hub, hubFile)
	agent := agentUp(t, hub, l.home, "home", webAtHub)
	works := func(what string) {
		t.Helper()
		start := time.Now()
		waitFor(t, what, func() bool {
			out, err := l.visitor.Command(t.Context(), "curl", "-sS", "--max-time", "2", "http://"+hubAddr+":8000/").Output()
			return err == nil && strings.Contains(string(out), "hello from home")
		})
		t.Logf("%s after %v", what, time.Since(start).Round(time.Millisecond))
	}
	works("the visitor is served")
	agent.proc.Kill()
	agent.start()
	works("the next agent serves")
	hub.proc.Kill()
	hub.start()
	works("the next hub serves")
	hub.run("upgrade")
	works("the hub's next program serves")
	agent.run("upgrade")
	works("the agent's next program serves")
	waitFor(t, "all is as before", func() bool { a := hub.agents()["home"]; return a.State == "up" && len(a.Forwards) == 1 })
}

// TestAgentsManaged: who was kicked comes again, who was revoked does not, and who has a wrong token never did.
func TestAgentsManaged(t *testing.T) {
	needs(t, "nginx", "curl")
	l := newTunnelLab(t)
	nginx(t, l.home, 8080)
	hub := up(t, l.hub, hubFile)
	agent := agentUp(t, hub, l.home, "home", webAtHub, "--ports", "8000")
	url := "http://" + hubAddr + ":8000/"
	waitFor(t, "the hub listens", func() bool { return l.hub.Listening("tcp", 8000) })
	if got := l.curl(url); !strings.Contains(got, "hello from home") {
		t.Errorf("%q", got)
	}
	hub.run("agents", "kick", "home")
	waitFor(t, "the agent comes again", func() bool { return hub.agents()["home"].State == "up" && l.hub.Listening("tcp", 8000) })
	if got := l.curl(url); !strings.Contains(got, "hello from home") {
		t.Errorf("%q", got)
	}
	hub.run("agents", "rename", "home", "house")
	if a := hub.agents(); a["house"].State != "up" || a["home"].Name != "" {
		t.Errorf("%+v", a)
	}
	agent.write("[agent]\n" + webAtHub + "[forward.more]\nat = \"hub\"\nlisten = \"8001\"\nto = \"127.0.0.1:8080\"\n")
	agent.run("apply", "-c", agent.file())
	waitFor(t, "the port is refused", func() bool {
		f := agent.status()["more"]
		return f.State != "up" && strings.Contains(f.Detail, "8001")
	})
	hub.run("agents", "revoke", "house")
	waitFor(t, "nobody listens", func() bool { return !l.hub.Listening("tcp", 8000) })
	waitFor(t, "the agent says why", func() bool { f := agent.status()["web"]; return f.State == "waiting" && f.Detail != "" })
	t.Logf("the revoked agent says %q", agent.status()["web"].Detail)
	if len(hub.agents()) != 0 {
		t.Errorf("%+v", hub.agents())
	}

	good := hub.token("other")
	for _, wrong := range []string{"x", good[:len(good)-1], good[:40] + "A" + good[41:]} {
		d := &daemon{t: t, node: l.office, dir: t.TempDir()}
		out, err := d.try("join", hubAddr+":443", wrong)
		if err == nil || !strings.Contains(out, "token") || strings.Contains(out, good[50:]) {
			t.Errorf("%v, %s", err, out)
		}
	}
}

// TestAgentToAgent: the hub reaches what the agent allows, one agent reaches another whom it may, and nobody else gets anywhere.
func TestAgentToAgent(t *testing.T) {
	needs(t, "nginx", "curl", "ssh", "sshd")
	l := newTunnelLab(t)
	nginx(t, l.home, 8080)
	nginx(t, l.hub, 8090)
	s := sshd(t, l.home, 2022, "127.0.0.1")
	hub := up(t, l.hub, hubFile+`
[forward.managed]
listen = "8100"
to = "127.0.0.1:8080"
via = "home"
[forward.forbidden]
listen = "8101"
to = "127.0.0.1:22"
via = "home"
[forward.later]
listen = "8102"
to = "127.0.0.1:8080"
via = "nobody"
`)
	waitFor(t, "forwards wait for agents", func() bool {
		s := hub.status()
		return s["managed"].State == "waiting" && s["later"].State == "waiting" && s["later"].Detail != ""
	})
	agentUp(t, hub, l.home, "home", "allow = [\"127.0.0.1:8080\", \"127.0.0.1:2022\"]\n")
	waitFor(t, "the forward is up", func() bool { return hub.status()["managed"].State == "up" })
	if got := l.curl("http://" + hubAddr + ":8100/"); !strings.Contains(got, "hello from home") {
		t.Errorf("%q", got)
	}
	if out, err := l.visitor.Command(t.Context(), "curl", "-sS", "--max-time", "10", "http://"+hubAddr+":8101/").CombinedOutput(); err == nil {
		t.Errorf("what is not allowed is dialled: %s", out)
	}

	office := agentUp(t, hub, l.office, "office", `
[node.there]
hub = "home"
[node.closed]
hub = "nobody"
[forward.ssh]
listen = "127.0.0.1:2200"
to = "127.0.0.1:2022"
via = "there"
[forward.web]
listen = "127.0.0.1:8200"
to = "127.0.0.1:8080"
via = "there"
[forward.closed]
listen = "127.0.0.1:8201"
to = "127.0.0.1:8080"
via = "closed"
[forward.hubs]
listen = "127.0.0.1:8202"
to = "127.0.0.1:8090"
via = "hub"
`, "--reach", "home", "--targets", "127.0.0.1:8090")
	for port, host := range map[int]string{8200: "home", 8202: "hub"} {
		waitFor(t, "the office listens", func() bool { return l.office.Listening("tcp", port) })
		if got := l.office.Run(t, "curl", "-sS", "--max-time", "10", fmt.Sprintf("http://127.0.0.1:%d/", port)); !strings.Contains(got, "hello from "+host) {
			t.Errorf("%d: %q", port, got)
		}
	}
	write(t, s.knownHosts, strings.Replace(read(t, s.knownHosts), ":2022", ":2200", 1))
	out := l.office.Run(t, "ssh", "-F", "none", "-p", "2200", "-i", s.key, "-o", "UserKnownHostsFile="+s.knownHosts, "-o", "BatchMode=yes", "root@127.0.0.1", "echo", "there")
	if out != "there\n" {
		t.Errorf("ssh said %q", out)
	}
	if out, err := l.office.Command(t.Context(), "curl", "-sS", "--max-time", "5", "http://127.0.0.1:8201/").CombinedOutput(); err == nil {
		t.Errorf("an agent that nobody knows answers: %s", out)
	}
	for _, name := range []string{"ssh", "web", "hubs"} {
		if f := office.status()[name]; f.State != "up" {
			t.Errorf("%+v", f)
		}
	}
	if l.hub.Listening("tcp", 2200) || l.hub.Listening("tcp", 8200) {
		t.Error("a private forward listens at the hub")
	}
}

// TestTunnelSource: the target learns who the visitor is, by the PROXY protocol, or without knowing of anything.
func TestTunnelSource(t *testing.T) {
	needs(t, "nginx", "curl")
	l := newTunnelLab(t)
	log := nginx(t, l.nas, 8080)
	hub := up(t, l.hub, hubFile)
	l.home.Echo(t, "[::]:9000")
	agent := agentUp(t, hub, l.home, "home", `
[forward.kept]
at = "hub"
listen = "8000"
to = "192.168.1.10:8080"
source = "keep"
[forward.datagrams]
at = "hub"
listen = "udp/9000"
to = "127.0.0.1:9000"
`)
	waitFor(t, "the hub listens", func() bool { return l.hub.Listening("tcp", 8000) && l.hub.Listening("udp", 9000) })
	if got := l.curl("http://" + hubAddr + ":8000/"); !strings.Contains(got, "hello from nas") {
		t.Errorf("%q", got)
	}
	if who := logged(t, log); who != visitorAddr+"\n" {
		t.Errorf("nginx saw %q\n%+v", who, agent.status()["kept"])
	}
	k := dial(t, l.visitor, "udp/"+hubAddr+":9000")
	for range 3 {
		k.say()
	}
	l.readdress(homeAddr, "100.64.0.12")
	waitFor(t, "the agent is back", func() bool { return k.trySay() == nil })
}

// TestHubNames: one port for all. Agents come to it by each transport, and visitors by names that lead to an agent.
func TestHubNames(t *testing.T) {
	needs(t, "nginx", "curl", "python3")
	l := newTunnelLab(t)
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	nginx(t, l.home, 8080)
	cert, key := selfSigned(t, dir, "blog", "blog.example.com")
	cloudCert, cloudKey := selfSigned(t, dir, "cloud", "a.cloud.example.com")
	site(t, l.home, "cloud", 8443, cloudCert, cloudKey)
	for _, file := range []string{key, cloudKey} {
		if err := os.Chmod(file, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	hub := up(t, l.hub, hubFile+fmt.Sprintf(`
[forward.blog]
listen = "443"
host = "blog.example.com"
cert = %q
key = %q
to = "127.0.0.1:8080"
via = "home"
[forward.cloud]
listen = "443"
host = "*.cloud.example.com"
to = "127.0.0.1:8443"
via = "home"
`, cert, key))
	agent := agentUp(t, hub, l.home, "home", "transports = \"wss\"\nallow = [\"127.0.0.1:8080\", \"127.0.0.1:8443\"]\n")
	visit := func(name string, args ...string) (string, error) {
		args = append([]string{"-sS", "--max-time", "10", "--resolve", name + ":443:" + hubAddr}, args...)
		out, err := l.visitor.Command(t.Context(), "curl", append(args, "https://"+name+"/")...).CombinedOutput()
		return string(out), err
	}
	for range 2 { // before an apply and after it
		if out, err := visit("blog.example.com", "--cacert", cert); err != nil || !strings.Contains(out, "hello from home") {
			t.Errorf("%v, %s", err, out)
		}
		if out, err := visit("a.cloud.example.com", "--cacert", cloudCert); err != nil || !strings.HasPrefix(out, "site=cloud") {
			t.Errorf("%v, %s", err, out)
		}
		if out, err := visit("nobody.example.com", "-k", "-f"); err == nil {
			t.Errorf("a name that nobody has: %s", out)
		}
		hub.run("apply", "-c", hub.file())
	}
	agent.write("[agent]\ntransports = [\"quic\", \"tls\"]\nallow = [\"127.0.0.1:8080\", \"127.0.0.1:8443\"]\n")
	agent.run("apply", "-c", agent.file())
	waitFor(t, "another transport", func() bool { a := hub.agents()["home"]; return a.State == "up" && a.Transport != "wss" })
	if out, err := visit("blog.example.com", "--cacert", cert); err != nil || !strings.Contains(out, "hello from home") {
		t.Errorf("%v, %s", err, out)
	}
	// Without the hub the names have the port by themselves.
	text := read(t, hub.file())
	hub.write(strings.ReplaceAll(strings.Replace(text, hubFile, "", 1), "via = \"home\"\n", "") + "\n")
	hub.run("apply", "-c", hub.file())
	waitFor(t, "the port is the relay's", func() bool {
		out, err := visit("blog.example.com", "--cacert", cert, "-o", "/dev/null", "-w", "%{http_code}")
		return err == nil && strings.HasPrefix(out, "50") // at the hub nobody answers at that port
	})
	if f := hub.status()["blog"]; f.State != "up" {
		t.Errorf("%+v", f)
	}
	// With it they share the port again, which nobody else has to let go of by hand.
	hub.write(text)
	hub.run("apply", "-c", hub.file())
	waitFor(t, "the port is the hub's", func() bool {
		out, err := visit("blog.example.com", "--cacert", cert)
		return err == nil && strings.Contains(out, "hello from home")
	})
	if out, err := l.hub.Command(t.Context(), binary, "add", "x", "443", "127.0.0.1:1", "--socket", filepath.Join(hub.dir, "s")).CombinedOutput(); err == nil || !strings.Contains(string(out), "is the hub's") {
		t.Errorf("%v, %s", err, out)
	}
}
