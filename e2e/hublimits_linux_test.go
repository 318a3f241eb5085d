package e2e

import (
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/fairlead-net/fairlead/internal/netlab"
)

// A limitLab is a hub, its agent "home", and what they and others have to say to each other. At home a program echoes at port 9000, at the hub
// one at 9001.
type limitLab struct {
	*tunnelLab
	hubd, home *daemon
}

func newLimitLab(t *testing.T, agent string, flags ...string) *limitLab {
	t.Helper()
	l := &limitLab{tunnelLab: newTunnelLab(t)}
	l.tunnelLab.home.Echo(t, "[::]:9000")
	l.hub.Echo(t, "[::]:9001")
	l.hubd = up(t, l.hub, hubFile)
	l.home = agentUp(t, l.hubd, l.tunnelLab.home, "home", agent, flags...)
	return l
}

// limit changes what home may.
func (l *limitLab) limit(flags ...string) {
	l.t.Helper()
	l.hubd.run(append([]string{"agents", "limit", "home"}, flags...)...)
}

// refused waits until a forward of home's does not work, and says why.
func (l *limitLab) refused(name, why string) {
	l.t.Helper()
	last := ""
	waitFor(l.t, fmt.Sprintf("%s is refused: %s", name, why), func() bool {
		f := l.home.status()[name]
		if last != f.State+f.Detail {
			last = f.State + f.Detail
			l.t.Logf("%s: %s: %s", name, f.State, f.Detail)
		}
		return f.State != "up" && strings.Contains(f.Detail, why)
	})
}

func (l *limitLab) up(names ...string) {
	l.t.Helper()
	for _, name := range names {
		waitFor(l.t, name+" is up", func() bool { return l.home.status()[name].State == "up" })
	}
}

// ends waits until a session that was open is over.
func (k *talk) ends(what string) {
	k.t.Helper()
	_ = k.conn.SetDeadline(time.Now().Add(30 * time.Second))
	if _, err := io.Copy(io.Discard, k.conn); err != nil && isTimeout(err) {
		k.t.Errorf("%s: %s goes on", what, k.name)
	}
}

func isTimeout(err error) bool {
	var e net.Error
	return errors.As(err, &e) && e.Timeout()
}

// away has somebody come who is to be turned away: at once, or as soon as somebody has looked at him.
func (l *limitLab) away(what string, from *netlab.Node, to string) {
	l.t.Helper()
	network, addr, _ := strings.Cut(to, "/")
	conn, err := from.Dial(l.t.Context(), network, addr)
	if err != nil {
		return
	}
	defer conn.Close()
	(&talk{t: l.t, conn: conn, name: to}).ends(what)
}

// dead waits until nobody answers what a client sends, which is how a flow of datagrams is over.
func (k *talk) dead(what string) {
	k.t.Helper()
	for deadline := time.Now().Add(30 * time.Second); ; {
		_ = k.conn.SetDeadline(time.Now().Add(300 * time.Millisecond))
		_, _ = k.conn.Write([]byte("anybody?"))
		if _, err := k.conn.Read(make([]byte, 1500)); err != nil {
			return
		}
		if time.Now().After(deadline) {
			k.t.Errorf("%s: %s goes on", what, k.name)
			return
		}
	}
}

// at is a forward of home's that the hub listens for.
func at(name, listen string) string {
	return fmt.Sprintf("[forward.%s]\nat = \"hub\"\nlisten = %q\nto = \"127.0.0.1:9000\"\n", name, listen)
}

// TestLimitOfPorts: single ports and ranges, of TCP and UDP; what is taken away ends at once, and what is given again is listened at without
// anybody asking.
func TestLimitOfPorts(t *testing.T) {
	t.Parallel()
	l := newLimitLab(t, at("one", "80")+at("first", "8000")+at("last", "udp/8009")+at("beyond", "8010")+at("udp", "udp/7999"), "--ports", "80,8000-8009")
	l.up("one", "first", "last")
	l.refused("beyond", "8010")
	l.refused("udp", "7999")
	tcp, udp, kept := dial(t, l.visitor, "tcp/"+hubAddr+":8000"), dial(t, l.visitor, "udp/"+hubAddr+":8009"), dial(t, l.visitor, "tcp/"+hubAddr+":80")
	tcp.say()
	udp.say()
	kept.say()
	l.limit("--ports", "80,8010")
	tcp.ends("the port was taken away")
	udp.dead("the port was taken away")
	waitFor(t, "the ports are closed", func() bool { return !l.hub.Listening("tcp", 8000) && !l.hub.Listening("udp", 8009) })
	l.refused("first", "8000")
	l.up("beyond")
	kept.say()
	dial(t, l.visitor, "tcp/"+hubAddr+":8010").say()
	l.limit("--ports", "none")
	kept.ends("no port is left")
	l.refused("beyond", "no port")
	l.limit("--reset", "ports")
	l.up("first", "last", "beyond", "udp")
	l.refused("one", "80 is not permitted")
	// What the file says goes before all that.
	l.hubd.write(hubFile + "[agents.home]\nports = \"8000\"\n")
	l.hubd.run("apply", "-c", l.hubd.file())
	l.refused("beyond", "8010")
	if out := l.hubd.run("agents", "limit", "home", "--ports", "8010", "--json"); !strings.Contains(out, `"overruled":["ports"]`) {
		t.Errorf("%s", out)
	}
	l.refused("beyond", "8010")
	l.up("first")
}

// TestLimitOfForwards: one more than there may be is refused, and its turn comes when another one goes.
func TestLimitOfForwards(t *testing.T) {
	t.Parallel()
	l := newLimitLab(t, at("a", "8000")+at("b", "udp/8001"), "--max-forwards", "2")
	l.up("a", "b")
	l.home.write("[agent]\n" + at("a", "8000") + at("b", "udp/8001") + at("c", "8002"))
	l.home.run("apply", "-c", l.home.file())
	l.refused("c", "2 forwards, which is the most")
	l.home.write("[agent]\n" + at("b", "udp/8001") + at("c", "8002"))
	l.home.run("apply", "-c", l.home.file())
	l.up("c")
	l.home.write("[agent]\n" + at("a", "8000") + at("b", "udp/8001") + at("c", "8002"))
	l.home.run("apply", "-c", l.home.file())
	l.refused("a", "2 forwards, which is the most")
	l.limit("--max-forwards", "3")
	l.up("a", "b", "c")
	l.limit("--max-forwards", "1")
	if got := len(l.hubd.agents()["home"].Forwards); got != 3 {
		t.Errorf("%d are open, and three were", got)
	}
}

// TestLimitOfSessions: connections and flows count together, whoever opened them.
func TestLimitOfSessions(t *testing.T) {
	t.Parallel()
	l := newLimitLab(t, at("tcp", "8000")+at("udp", "udp/8000")+"[forward.back]\nlisten = \"127.0.0.1:7000\"\nto = \"127.0.0.1:9001\"\nvia = \"hub\"\n",
		"--max-sessions", "3", "--targets", "127.0.0.1:9001")
	l.up("tcp", "udp", "back")
	all := []*talk{dial(t, l.visitor, "tcp/"+hubAddr+":8000"), dial(t, l.visitor, "udp/"+hubAddr+":8000"), dial(t, l.tunnelLab.home, "tcp/127.0.0.1:7000")}
	for _, k := range all {
		k.say()
	}
	l.away("one too many", l.visitor, "tcp/"+hubAddr+":8000")
	l.away("one too many, from the other side", l.tunnelLab.home, "tcp/127.0.0.1:7000")
	if err := dial(t, l.office, "udp/"+hubAddr+":8000").tryOnce(); err == nil {
		t.Error("one flow too many is answered")
	}
	_ = all[0].conn.Close()
	waitFor(t, "there is room again", func() bool {
		conn, err := l.visitor.Dial(t.Context(), "tcp", hubAddr+":8000")
		if err != nil {
			return false
		}
		defer conn.Close()
		return (&talk{t: t, conn: conn}).tryOnce() == nil
	})
	all[1].say()
	all[2].say()
	l.limit("--max-sessions", "100")
	for range 10 {
		dial(t, l.visitor, "tcp/"+hubAddr+":8000").say()
	}
}

// tryOnce is trySay for one that may be refused: it does not wait long.
func (k *talk) tryOnce() error {
	_ = k.conn.SetDeadline(time.Now().Add(time.Second))
	if _, err := k.conn.Write([]byte("hello")); err != nil {
		return err
	}
	got := ""
	for buf := make([]byte, 1500); !strings.HasSuffix(got, "hello"); {
		n, err := k.conn.Read(buf)
		if err != nil {
			return err
		}
		got += string(buf[:n])
	}
	return nil
}

// TestLimitOfTargets: what the hub dials for an agent, streams and datagrams, by address and by name.
func TestLimitOfTargets(t *testing.T) {
	t.Parallel()
	back := func(name, listen, to string) string {
		return fmt.Sprintf("[forward.%s]\nlisten = %q\nto = %q\nvia = \"hub\"\n", name, listen, to)
	}
	l := newLimitLab(t, back("may", "tcp+udp/127.0.0.1:7000", "127.0.0.1:9001")+back("port", "127.0.0.1:7001", "127.0.0.1:22")+back("host", "127.0.0.1:7002", visitorAddr+":9001")+
		back("name", "127.0.0.1:7003", "localhost:9001"), "--targets", "127.0.0.0/8:9001")
	l.visitor.Echo(t, "[::]:9001")
	from := func(port int) *talk { return dial(t, l.tunnelLab.home, fmt.Sprintf("tcp/127.0.0.1:%d", port)) }
	l.up("may", "name")
	stream, named, flow := from(7000), from(7003), dial(t, l.tunnelLab.home, "udp/127.0.0.1:7000")
	stream.say()
	named.say()
	flow.say()
	away := func(what string, port int) { l.away(what, l.tunnelLab.home, fmt.Sprintf("tcp/127.0.0.1:%d", port)) }
	away("another port", 7001)
	away("another host", 7002)
	l.limit("--targets", visitorAddr)
	stream.ends("the target was taken away")
	named.ends("the target was taken away")
	flow.dead("the target was taken away")
	away("the target was taken away", 7000)
	kept := from(7002)
	kept.say()
	l.limit("--targets", "none")
	kept.ends("no target is left")
	l.hubd.write(hubFile + "[agents.home]\ntargets = \"127.0.0.1:9001\"\n")
	l.hubd.run("apply", "-c", l.hubd.file())
	again := from(7000)
	again.say()
	l.hubd.write(hubFile + "[agents.home]\ntargets = \"none\"\n")
	l.hubd.run("apply", "-c", l.hubd.file())
	again.ends("the file says none")
}

// TestLimitOfReach: one agent reaches another for as long as it may, and by the name that this has.
func TestLimitOfReach(t *testing.T) {
	t.Parallel()
	l := newLimitLab(t, "allow = [\"127.0.0.1:9000\"]\n")
	agentUp(t, l.hubd, l.office, "office", `
[node.there]
hub = "home"
[forward.desk]
listen = "tcp+udp/127.0.0.1:7000"
to = "127.0.0.1:9000"
via = "there"
`)
	waitFor(t, "the office listens", func() bool { return l.office.Listening("tcp", 7000) })
	from := func(network string) *talk { return dial(t, l.office, network+"/127.0.0.1:7000") }
	l.away("nobody said that it may", l.office, "tcp/127.0.0.1:7000")
	l.hubd.run("agents", "limit", "office", "--reach", "home")
	stream, flow := from("tcp"), from("udp")
	stream.say()
	flow.say()
	l.hubd.run("agents", "limit", "office", "--reach", "elsewhere")
	stream.ends("reach was taken away")
	flow.dead("reach was taken away")
	l.away("reach was taken away", l.office, "tcp/127.0.0.1:7000")
	l.hubd.run("agents", "limit", "office", "--reach", "*")
	stream = from("tcp")
	stream.say()
	l.hubd.run("agents", "revoke", "home")
	stream.ends("the other one was revoked")
}

// TestLimitOfHosts: the names that may lead to an agent, at a port that it may not have as a whole.
func TestLimitOfHosts(t *testing.T) {
	t.Parallel()
	named := func(name string) string {
		return fmt.Sprintf("[forward.%s]\nat = \"hub\"\nlisten = \"80\"\nhost = \"%s.example.com\"\nto = \"127.0.0.1:3000\"\n", name, name)
	}
	l := newLimitLab(t, named("blog")+named("wiki")+at("port", "8080"), "--ports", "none", "--hosts", "blog.example.com,*.home.example.com")
	l.tunnelLab.home.Web(t, "127.0.0.1:3000")
	l.up("blog")
	l.refused("wiki", "the name wiki.example.com is not permitted")
	l.refused("port", "no port")
	visit := func(name string) (*talk, string) {
		t.Helper()
		k := dial(t, l.visitor, "tcp/"+hubAddr+":80")
		_ = k.conn.SetDeadline(time.Now().Add(30 * time.Second))
		fmt.Fprintf(k.conn, "GET / HTTP/1.1\r\nHost: %s.example.com\r\n\r\n", name)
		buf := make([]byte, 4096)
		n, _ := k.conn.Read(buf)
		return k, string(buf[:n])
	}
	open, said := visit("blog")
	if !strings.Contains(said, "200 OK") {
		t.Errorf("%q", said)
	}
	if _, said := visit("wiki"); strings.Contains(said, "200 OK") {
		t.Errorf("%q", said)
	}
	l.limit("--hosts", "wiki.example.com")
	open.ends("the name was taken away")
	l.refused("blog", "the name blog.example.com is not permitted")
	l.up("wiki")
	if _, said := visit("wiki"); !strings.Contains(said, "200 OK") {
		t.Errorf("%q", said)
	}
	if _, said := visit("blog"); strings.Contains(said, "200 OK") {
		t.Errorf("%q", said)
	}
	l.limit("--hosts", "none")
	l.refused("wiki", "the name wiki.example.com is not permitted")
	waitFor(t, "nobody listens", func() bool { return !l.hub.Listening("tcp", 80) })
}

// TestLimitOfBandwidth: all that an agent has together, each way, and what is open already.
func TestLimitOfBandwidth(t *testing.T) {
	t.Parallel()
	l := newLimitLab(t, at("web", "8000"))
	l.up("web")
	const rate, amount = 1 << 20, 4 << 20 // bytes a second, and bytes
	// echoed sends so much over each connection, and returns when it has come back. The hub counts each way for itself.
	echoed := func(conns []*talk) time.Duration {
		t.Helper()
		start := time.Now()
		done := make(chan error, len(conns))
		for _, k := range conns {
			_ = k.conn.SetDeadline(start.Add(2 * time.Minute))
			go func() { _, _ = k.conn.Write(make([]byte, amount/len(conns))) }()
			go func() {
				_, err := io.CopyN(io.Discard, k.conn, int64(amount/len(conns)))
				done <- err
			}()
		}
		for range conns {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
		return time.Since(start)
	}
	conns := []*talk{dial(t, l.visitor, "tcp/"+hubAddr+":8000"), dial(t, l.visitor, "tcp/"+hubAddr+":8000")}
	for _, k := range conns {
		k.say()
	}
	t.Logf("without a limit: %v", echoed(conns))
	l.limit("--bandwidth", "1MiB")
	took := echoed(conns)
	t.Logf("with %d bytes a second, %d bytes took %v", rate, amount, took)
	if took < amount/rate*time.Second*3/4 {
		t.Errorf("that is faster than it may: %v", took)
	}
	l.limit("--bandwidth", "none")
	t.Logf("without a limit again: %v", echoed(conns))
}

// TestLimitOfTime: at its time all that an agent has ends, and it is not let in again before somebody says so.
func TestLimitOfTime(t *testing.T) {
	t.Parallel()
	l := newLimitLab(t, "allow = [\"127.0.0.1:9000\"]\n"+at("tcp", "8000")+at("udp", "udp/8000"))
	l.up("tcp", "udp")
	l.hubd.write(hubFile + "[forward.managed]\nlisten = \"8100\"\nto = \"127.0.0.1:9000\"\nvia = \"home\"\n")
	l.hubd.run("apply", "-c", l.hubd.file())
	waitFor(t, "the hub's forward is up", func() bool { return l.hubd.status()["managed"].State == "up" })
	tcp, udp, managed := dial(t, l.visitor, "tcp/"+hubAddr+":8000"), dial(t, l.visitor, "udp/"+hubAddr+":8000"), dial(t, l.visitor, "tcp/"+hubAddr+":8100")
	for _, k := range []*talk{tcp, udp, managed} {
		k.say()
	}
	l.limit("--expires", "3s")
	tcp.ends("expired")
	managed.ends("expired")
	udp.dead("expired")
	waitFor(t, "nobody listens", func() bool { return !l.hub.Listening("tcp", 8000) && !l.hub.Listening("udp", 8000) })
	waitFor(t, "the hub says why", func() bool { return l.hubd.agents()["home"].State == "expired" })
	l.refused("tcp", "expired")
	l.limit("--expires", "never")
	l.home.proc.Kill() // it would try again by itself, half a minute later
	l.home.start()
	l.up("tcp", "udp")
	dial(t, l.visitor, "tcp/"+hubAddr+":8000").say()
}

// TestKickAndRevokeAtOnce: streams and flows of every kind end, and who was revoked has nothing any more.
func TestKickAndRevokeAtOnce(t *testing.T) {
	t.Parallel()
	l := newLimitLab(t, "allow = [\"127.0.0.1:9000\"]\n"+at("tcp", "8000")+at("udp", "udp/8000")+"[forward.back]\nlisten = \"127.0.0.1:7000\"\nto = \"127.0.0.1:9001\"\nvia = \"hub\"\n",
		"--targets", "127.0.0.1:9001")
	l.hubd.write(hubFile + "[forward.managed]\nlisten = \"8100\"\nto = \"127.0.0.1:9000\"\nvia = \"home\"\n")
	l.hubd.run("apply", "-c", l.hubd.file())
	for _, do := range []string{"kick", "revoke"} {
		l.up("tcp", "udp", "back")
		waitFor(t, "the hub's forward is up", func() bool { return l.hubd.status()["managed"].State == "up" })
		streams := []*talk{dial(t, l.visitor, "tcp/"+hubAddr+":8000"), dial(t, l.visitor, "tcp/"+hubAddr+":8100"), dial(t, l.tunnelLab.home, "tcp/127.0.0.1:7000")}
		flow := dial(t, l.visitor, "udp/"+hubAddr+":8000")
		for _, k := range append(streams, flow) {
			k.say()
		}
		l.hubd.run("agents", do, "home")
		for _, k := range streams {
			k.ends(do)
		}
		if do == "revoke" {
			flow.dead(do)
		}
	}
	waitFor(t, "nobody listens", func() bool { return !l.hub.Listening("tcp", 8000) && !l.hub.Listening("udp", 8000) })
	l.refused("tcp", "revoked")
	if len(l.hubd.agents()) != 0 {
		t.Errorf("%+v", l.hubd.agents())
	}
	// With its key it is somebody whom nobody knows, also by another name; a new token makes it an agent with what that says.
	l.home.proc.Kill()
	l.home.run("join", hubAddr+":443", l.hubd.token("house", "--ports", "8000"))
	l.home.start()
	l.up("tcp", "udp")
	l.away("what the old token said", l.tunnelLab.home, "tcp/127.0.0.1:7000")
}

// TestMostAgents: tokens that are out do not help where there are as many agents as there may be.
func TestMostAgents(t *testing.T) {
	t.Parallel()
	l := newLimitLab(t, "")
	token := l.hubd.token("office")
	l.hubd.write(hubFile + "max_agents = 1\n")
	l.hubd.run("apply", "-c", l.hubd.file())
	d := &daemon{t: t, node: l.office, dir: t.TempDir()}
	if out, err := d.try("join", hubAddr+":443", token); err == nil || !strings.Contains(out, "max_agents") {
		t.Errorf("%v, %s", err, out)
	}
	if out, err := l.hubd.try("agents", "token"); err == nil || !strings.Contains(out, "max_agents") {
		t.Errorf("%v, %s", err, out)
	}
	l.hubd.run("agents", "revoke", "home")
	d.run("join", hubAddr+":443", token)
	if a := l.hubd.agents(); len(a) != 1 || a["office"].Name == "" {
		t.Errorf("%+v", a)
	}
}
