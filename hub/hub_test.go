package hub

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/fairlead-net/fairlead/forward"
	"github.com/fairlead-net/fairlead/node"
	"github.com/fairlead-net/fairlead/node/agent"
	"github.com/fairlead-net/fairlead/tunnel"
)

var (
	anna = tunnel.Key{1}
	ben  = tunnel.Key{2}
)

func TestJoinAndShare(t *testing.T) {
	w := newWorld(t, nil)
	token, err := w.hub.NewToken(TokenOptions{})
	if err != nil {
		t.Fatal(err)
	}
	told, err := w.join(anna, token.Secret(), "anna")
	if err != nil || told.Name != "anna" || len(told.May) == 0 {
		t.Fatalf("%+v, %v", told, err)
	}
	var said *tunnel.Error
	if _, err := w.join(ben, token.Secret(), "ben"); !errors.As(err, &said) || said.Code != tunnel.Secret {
		t.Errorf("the second use of a token: %v", err)
	}
	m := w.run(anna, nil)
	l := w.listen(m, "127.0.0.1:0")
	c := w.dial(l.Addr().String())
	big := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
	go func() {
		_, _ = c.Write(big)
		_ = c.(*net.TCPConn).CloseWrite()
	}()
	got, err := io.ReadAll(c)
	if err != nil || sha256.Sum256(got) != sha256.Sum256(big) {
		t.Errorf("%d bytes came back, %v", len(got), err)
	}
	if a := w.hub.Agents(); len(a) != 1 || a[0].State != StateUp || a[0].Forwards != 1 || a[0].Program != "fairlead test" || a[0].Transport != "tls" || a[0].In < uint64(len(big)) {
		t.Errorf("%+v", a)
	}
	w.eventually("the session is over", func() bool { return w.hub.Agents()[0].Sessions == 0 })
	if n, err := w.nodes.Node("anna"); err != nil || n == nil {
		t.Errorf("forwards do not find the agent: %v", err)
	}
}

func TestKick(t *testing.T) {
	w := newWorld(t, nil)
	w.enrol(anna, "anna", Limits{})
	m := w.run(anna, nil)
	l := w.listen(m, "127.0.0.1:0")
	c := w.dial(l.Addr().String())
	at := l.Addr().String()
	if err := w.hub.Kick("anna"); err != nil {
		t.Fatal(err)
	}
	w.ends("kicked", c)
	w.eventually("it is back at its port", func() bool {
		c, err := net.Dial("tcp", at)
		if err != nil {
			return false
		}
		defer c.Close()
		return says(c) == nil
	})
}

// TestImpostor has somebody with another key ask for a session that is not his.
func TestImpostor(t *testing.T) {
	w := newWorld(t, nil)
	w.enrol(anna, "anna", Limits{})
	w.enrol(ben, "ben", Limits{})
	m := w.run(anna, nil)
	l := w.listen(m, "127.0.0.1:0")
	c := w.dial(l.Addr().String())
	id := m.Session().Status().ID
	for name, key := range map[string]tunnel.Key{"an agent": ben, "a stranger": {99}} {
		for _, resume := range []bool{true, false} {
			s := tunnel.New(tunnel.Options{Side: tunnel.Agent, ID: id})
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan struct{})
			go func() {
				defer close(done)
				_ = s.Run(ctx)
			}()
			_, err := s.Attach(ctx, w.link(key), tunnel.Hello{Session: id, Resume: resume})
			var said *tunnel.Error
			if errors.As(err, &said); (resume || key != ben) && (said == nil || said.Code != tunnel.Gone && said.Code != tunnel.Unknown) {
				t.Errorf("%s, resume %v: %v", name, resume, err)
			}
			cancel()
			<-done
		}
	}
	if err := says(c); err != nil {
		t.Errorf("the owner's stream: %v", err)
	}
}

// TestLinksComeAndGo has a stream survive the loss of its link, and the port stay with the agent that begins a new session.
func TestLinksComeAndGo(t *testing.T) {
	w := newWorld(t, nil)
	w.enrol(anna, "anna", Limits{})
	w.enrol(ben, "ben", Limits{})
	m := w.run(anna, nil)
	l := w.listen(m, "127.0.0.1:0")
	at := l.Addr().String()
	c := w.dial(at)
	for range 3 {
		m.cut()
		if err := says(c); err != nil {
			t.Fatal(err)
		}
	}
	w.eventually("it has resumed three times", func() bool { return w.hub.Agents()[0].Resumed == 3 })
	m.stop() // the next run of the same program
	waiting, err := net.Dial("tcp", at)
	if err != nil {
		t.Fatalf("the port was closed: %v", err)
	}
	defer waiting.Close()
	b := w.run(ben, nil)
	if _, err := b.Listen(t.Context(), "tcp", at); err != nil {
		t.Fatal(err)
	}
	m2 := w.run(anna, nil)
	l2 := w.listen(m2, "127.0.0.1:0")
	if l2.Addr().String() != at {
		t.Errorf("it listened at %s, and now at %s", at, l2.Addr())
	}
	if err := says(waiting); err != nil {
		t.Errorf("who waited: %v", err)
	}
}

// TestTheHubRestarts has the port that the hub picked stay, and the agent ask for it by itself.
func TestTheHubRestarts(t *testing.T) {
	w := newWorld(t, nil)
	w.enrol(anna, "anna", Limits{})
	w.enrol(ben, "ben", Limits{})
	m := w.run(anna, nil)
	l := w.listen(m, "127.0.0.1:0")
	at := l.Addr().String()
	w.dial(at)
	w.stop()
	if open := w.doors.Open(); len(open) != 0 {
		t.Errorf("a hub that has ended listens at %v", open)
	}
	w.begin(nil)
	b := w.run(ben, nil)
	thief, err := b.Listen(t.Context(), "tcp", at)
	if err != nil {
		t.Fatal(err)
	}
	w.eventually("it is back", func() bool {
		c, err := net.Dial("tcp", at)
		if err != nil {
			return false
		}
		defer c.Close()
		return says(c) == nil
	})
	if s := thief.(node.Stated).State(); s.Up {
		t.Error("another agent has the port")
	}
	if l.Addr().String() != at {
		t.Errorf("the listener says %s, and not %s", l.Addr(), at)
	}
}

func TestReach(t *testing.T) {
	w := newWorld(t, nil)
	target := w.target()
	w.enrol(anna, "anna", Limits{Reach: []string{"ben"}})
	w.enrol(ben, "ben", Limits{})
	a := w.run(anna, nil)
	rule, err := forward.ParseRule(target)
	if err != nil {
		t.Fatal(err)
	}
	b := w.run(ben, func(o *agent.HubOptions) { o.Allow = []agent.Allow{{Rule: rule, For: []string{"anna"}}} })
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	c, err := a.Agent("ben").Dial(ctx, "tcp", target)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := says(c); err != nil {
		t.Fatal(err)
	}
	big := bytes.Repeat([]byte("fairlead"), 1<<18)
	go func() {
		_, _ = c.Write(big)
		_ = c.(interface{ CloseWrite() error }).CloseWrite()
	}()
	if got, err := io.ReadAll(c); err != nil || !bytes.Equal(got, big) {
		t.Errorf("%d bytes came back, %v", len(got), err)
	}
	for what, try := range map[string]func() (net.Conn, error){
		"the other way":                  func() (net.Conn, error) { return b.Agent("anna").Dial(ctx, "tcp", target) },
		"what the other does not allow":  func() (net.Conn, error) { return a.Agent("ben").Dial(ctx, "tcp", "127.0.0.1:1") },
		"an agent that there is not":     func() (net.Conn, error) { return a.Agent("carl").Dial(ctx, "tcp", target) },
		"the hub itself":                 func() (net.Conn, error) { return a.Dial(ctx, "tcp", target) },
		"the hub, and it is not for her": func() (net.Conn, error) { n, _ := w.nodes.Node("ben"); return n.Dial(ctx, "tcp", target) },
	} {
		if c, err := try(); !errors.Is(err, node.ErrRefused) {
			t.Errorf("%s: %v, %v", what, c, err)
		}
	}
	c2, err := a.Agent("ben").Dial(ctx, "tcp", target)
	if err != nil {
		t.Fatal(err)
	}
	w.hub.Apply(Settings{Agents: map[string]Limits{"anna": {Reach: []string{}}}})
	w.ends("with reach taken away", c2)
	w.hub.Apply(Settings{})
	c3, err := a.Agent("ben").Dial(ctx, "tcp", target)
	if err != nil {
		t.Fatal(err)
	}
	b.SetAllow(nil)
	w.ends("with allow taken away", c3)
	if _, err := a.Agent("ben").Dial(ctx, "tcp", target); !errors.Is(err, node.ErrRefused) || !strings.Contains(err.Error(), "the agent ben says: to reach "+target+" is not permitted (by `allow` in its [agent])") {
		t.Errorf("what the other agent does not permit: %v", err)
	}
}

func TestDialByTheHub(t *testing.T) {
	w := newWorld(t, nil)
	target := w.target()
	rule, err := forward.ParseRule("127.0.0.0/8")
	if err != nil {
		t.Fatal(err)
	}
	w.enrol(anna, "anna", Limits{Targets: []forward.Rule{rule}})
	a := w.run(anna, nil)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	_, port, _ := net.SplitHostPort(target)
	for _, addr := range []string{target, "localhost:" + port, "0.0.0.0:" + port} {
		c, err := a.Dial(ctx, "tcp", addr)
		if err != nil {
			t.Errorf("%s: %v", addr, err)
			continue
		}
		if err := says(c); err != nil {
			t.Errorf("%s: %v", addr, err)
		}
		c.Close()
	}
	if _, err := a.Dial(ctx, "tcp", "192.0.2.1:80"); !errors.Is(err, node.ErrRefused) {
		t.Errorf("what is not permitted: %v", err)
	}
	if _, err := a.Dial(ctx, "tcp", "127.0.0.1:1"); !errors.Is(err, node.ErrFar) {
		t.Errorf("where nobody listens: %v", err)
	}
	c, err := a.Dial(ctx, "tcp", target)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.limit("anna", Limits{}); err != nil {
		t.Fatal(err)
	}
	w.ends("with targets taken away", c)
}

func TestRename(t *testing.T) {
	w := newWorld(t, nil)
	w.enrol(anna, "anna", Limits{})
	a := w.run(anna, nil)
	w.eventually("it knows its name", func() bool { return a.Self().Name == "anna" })
	if err := w.hub.Rename("anna", "alice"); err != nil {
		t.Fatal(err)
	}
	w.eventually("it is told its new name", func() bool { return a.Self().Name == "alice" })
	if _, err := w.nodes.Node("alice"); err != nil {
		t.Error(err)
	}
	if _, err := w.nodes.Node("anna"); err == nil {
		t.Error("forwards find it by its old name")
	}
}

func TestFlows(t *testing.T) {
	w := newWorld(t, nil)
	w.enrol(anna, "anna", Limits{})
	a := w.run(anna, nil)
	l, err := a.ListenPacket(t.Context(), "udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	w.eventually("the hub listens", func() bool { return l.(node.Stated).State().Up })
	clients := map[string]bool{}
	var conns []net.Conn
	for range 5 {
		c, err := net.Dial("udp", l.LocalAddr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		clients[c.LocalAddr().String()] = true
		conns = append(conns, c)
	}
	go func() {
		buf := make([]byte, 2048)
		for {
			n, from, err := l.ReadFrom(buf)
			if err != nil {
				return
			}
			_, _ = l.WriteTo(append([]byte(from.String()+" "), buf[:n]...), from)
		}
	}()
	for i, c := range conns {
		_ = c.SetDeadline(time.Now().Add(patience))
		_, _ = fmt.Fprintf(c, "%d", i)
		b := make([]byte, 100)
		n, err := c.Read(b)
		if want := fmt.Sprintf("%s %d", c.LocalAddr(), i); err != nil || string(b[:n]) != want {
			t.Errorf("%q, %v; want %q", b[:n], err, want)
		}
	}
	if s := w.hub.Agents()[0]; s.Sessions != 5 {
		t.Errorf("there are %d flows", s.Sessions)
	}
}

// TestSlowReader has one stream that nobody reads, and another that is not held up by it.
func TestSlowReader(t *testing.T) {
	w := newWorld(t, nil)
	w.enrol(anna, "anna", Limits{})
	a := w.run(anna, nil)
	l, err := a.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w.eventually("the hub listens", func() bool { return l.(node.Stated).State().Up })
	slow, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer slow.Close()
	unread, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer unread.Close()
	wrote := make(chan int64, 1)
	_ = slow.SetWriteDeadline(time.Now().Add(500 * time.Millisecond))
	go func() {
		n, _ := io.Copy(slow, zeros{})
		wrote <- n
	}()
	go func() {
		if c, err := l.Accept(); err == nil {
			echo(c)
		}
	}()
	quick := w.dial(l.Addr().String())
	for range 100 {
		if err := says(quick); err != nil {
			t.Fatal(err)
		}
	}
	if n := <-wrote; n > 64<<20 {
		t.Errorf("%d bytes went to somebody who reads nothing", n)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }

// TestNothingIsLeft has everything end that was begun: goroutines and descriptors.
func TestNothingIsLeft(t *testing.T) {
	if l, err := net.Listen("tcp", "127.0.0.1:0"); err == nil { // has the runtime open what it keeps
		l.Close()
	}
	before, files := runtime.NumGoroutine(), descriptors(t)
	t.Run("world", func(t *testing.T) {
		w := newWorld(t, nil)
		target := w.target()
		w.enrol(anna, "anna", Limits{Targets: []forward.Rule{{Host: "localhost"}}, Reach: []string{"*"}})
		w.enrol(ben, "ben", Limits{})
		a := w.run(anna, nil)
		b := w.run(ben, func(o *agent.HubOptions) { o.Allow = []agent.Allow{{Rule: forward.Rule{Host: "*"}}} })
		l := w.listen(a, "127.0.0.1:0")
		for range 3 {
			w.dial(l.Addr().String())
			for _, n := range []node.Node{a, a.Agent("ben")} {
				c, err := n.Dial(t.Context(), "tcp", target)
				if err != nil {
					t.Fatal(err)
				}
				if err := says(c); err != nil {
					t.Error(err)
				}
			}
			a.cut()
		}
		if _, err := b.ListenPacket(t.Context(), "udp", "127.0.0.1:0"); err != nil {
			t.Fatal(err)
		}
		if err := w.hub.Revoke("ben"); err != nil {
			t.Error(err)
		}
	})
	for deadline := time.Now().Add(patience); runtime.NumGoroutine() > before || descriptors(t) > files; time.Sleep(5 * time.Millisecond) {
		runtime.GC() // pipes that package net keeps for splice(2)
		if time.Now().After(deadline) {
			stacks := make([]byte, 1<<20)
			t.Fatalf("%d goroutines were %d, %d descriptors were %d:\n%s", runtime.NumGoroutine(), before, descriptors(t), files, stacks[:runtime.Stack(stacks, true)])
		}
	}
}

// descriptors is how many files this process has open, where the system says so.
func descriptors(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return 0
	}
	return len(entries)
}

// TestTwoOfOneKey has the copy of an agent throw it out once, and not again and again.
func TestTwoOfOneKey(t *testing.T) {
	w := newWorld(t, nil)
	w.enrol(anna, "anna", Limits{})
	first := w.run(anna, nil)
	w.eventually("the first is there", func() bool { return first.State().Up })
	second := w.run(anna, nil)
	w.eventually("the second is there", func() bool { return second.State().Up })
	w.eventually("the first says why it is not", func() bool { return strings.Contains(first.State().Why, "another agent with this one's key") })
	if !second.State().Up {
		t.Errorf("the second is not: %s", second.State().Why)
	}
}
