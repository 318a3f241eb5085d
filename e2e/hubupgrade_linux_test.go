package e2e

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"
)

// talksAtHub is what is said by name of what upgrades are not to interrupt, at the hub and at home.
const (
	hubWithSSH = hubFile + `
[forward.ssh]
listen = "2222"
to = "127.0.0.1:8081"
via = "home"
`
	talksAtHub = `allow = ["127.0.0.1:8081"]
` + webAtHub + `
[forward.talk]
at = "hub"
listen = "8001"
to = "127.0.0.1:8081"
[forward.datagrams]
at = "hub"
listen = "udp/8003"
to = "127.0.0.1:8081"
`
)

// TestHubUpgraded replaces the hub by another program, again and again, while data goes both ways over several connections, others are
// silent, and new ones come: nobody notices more than a pause.
func TestHubUpgraded(t *testing.T) {
	for _, transport := range []string{"quic", "tls", "wss"} {
		t.Run(transport, func(t *testing.T) {
			t.Parallel()
			l := newTunnelLab(t)
			hub := up(t, l.hub, hubWithSSH)
			agent := agentUp(t, hub, l.home, "home", fmt.Sprintf("transports = %q\n", transport)+talksAtHub)
			l.upgradeWhileTalking(hub, hub, 4)
			if t.Failed() {
				t.Logf("hub:\n%s\nagent:\n%s", tail(hub.proc.Output()), tail(agent.proc.Output()))
			}
		})
	}
}

// TestAgentUpgraded does the same to the agent.
func TestAgentUpgraded(t *testing.T) {
	for _, transport := range []string{"quic", "tls", "wss"} {
		t.Run(transport, func(t *testing.T) {
			t.Parallel()
			l := newTunnelLab(t)
			hub := up(t, l.hub, hubWithSSH)
			agent := agentUp(t, hub, l.home, "home", fmt.Sprintf("transports = %q\n", transport)+talksAtHub)
			l.upgradeWhileTalking(hub, agent, 4)
			if t.Failed() {
				t.Logf("hub:\n%s\nagent:\n%s", tail(hub.proc.Output()), tail(agent.proc.Output()))
			}
		})
	}
}

// TestHubUpgradedWithoutAgent upgrades the hub while its agent cannot be reached. Who talks to it goes on when it is back, and who has come
// meanwhile is served then.
func TestHubUpgradedWithoutAgent(t *testing.T) {
	l := newTunnelLab(t)
	hub := up(t, l.hub, hubWithSSH+"connect_timeout = \"1m\"\n")
	agent := agentUp(t, hub, l.home, "home", talksAtHub)
	l.home.Echo(t, "127.0.0.1:8081")
	waitFor(t, "the hub listens", func() bool { return l.hub.Listening("tcp", 8001) })
	var all []net.Conn
	for _, port := range []int{2222, 8001} {
		k := dial(t, l.visitor, fmt.Sprintf("tcp/%s:%d", hubAddr, port))
		k.say()
		all = append(all, k.conn)
	}
	l.line.Cut()
	for range 2 {
		k := dial(t, l.visitor, "tcp/"+hubAddr+":2222")
		all = append(all, k.conn)
		hub.run("upgrade", "--binary", binary)
	}
	l.line.Plug()
	for i, c := range all {
		if err := comesBack(c); err != nil {
			t.Errorf("connection %d: %v", i, err)
		}
	}
	if t.Failed() {
		t.Logf("hub:\n%s\nagent:\n%s", tail(hub.proc.Output()), tail(agent.proc.Output()))
	}
}

// upgradeWhileTalking upgrades a daemon so often.
func (l *tunnelLab) upgradeWhileTalking(hub, upgraded *daemon, times int) {
	t := l.t
	t.Helper()
	l.home.Echo(t, "127.0.0.1:8081")
	for _, port := range []int{8000, 8001} {
		waitFor(t, "the hub listens", func() bool { return l.hub.Listening("tcp", port) })
	}
	x := startTransfer(t, l.visitor, hubAddr+":8000", l.home, 8080, 6)
	idle := []*talk{dial(t, l.visitor, "tcp/"+hubAddr+":2222"), dial(t, l.visitor, "tcp/"+hubAddr+":8001")}
	for _, k := range idle {
		k.say()
	}
	callers := keepCalling(t, 2, 0, l.visitor, "tcp", hubAddr+":8001")
	pid := upgraded.proc.Pid()
	for range times {
		since, before := callers.calls.Load(), func() (int64, int64) { return x.moved() }
		up, down := before()
		upgraded.run("upgrade", "--binary", binary)
		waitFor(t, "more calls", func() bool { return callers.calls.Load() >= since+20 || t.Failed() })
		waitFor(t, "more of the transfer", func() bool {
			nowUp, nowDown := x.moved()
			return nowUp > up+1<<20 && nowDown > down+1<<20 || t.Failed()
		})
		for _, k := range idle {
			k.say()
		}
	}
	if now := upgraded.proc.Pid(); now != pid {
		t.Errorf("process %d was %d", now, pid)
	}
	callers.stop()
	x.finish()
	up, down := x.moved()
	t.Logf("%d kB up, %d kB down, %d calls, the slowest took %v", up>>10, down>>10, callers.calls.Load(), callers.slowest)
	waitFor(t, "all others to have ended", func() bool { return len(hub.sessions("")) == len(idle) })
	for _, s := range hub.sessions("") {
		if s.Bytes.In == 0 || s.Bytes.Out == 0 {
			t.Errorf("%+v", s)
		}
	}
}

// TestHubRestarted ends the hub's process and starts the next one, as systemd does, while visitors talk over the hub's own port with
// somebody whom they call by a name, and others come.
func TestHubRestarted(t *testing.T) {
	l := newTunnelLab(t)
	cert, key := selfSigned(t, t.TempDir(), "cloud", "cloud.example.com")
	pair, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	ln, err := l.home.Listen("tcp", "127.0.0.1:8443")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	go echoTLS(ln, &tls.Config{Certificates: []tls.Certificate{pair}}) //nolint:gosec // whatever is the default
	m := newManager(t)
	hub := &daemon{t: t, node: l.hub, dir: t.TempDir()}
	hub.write(hubFile + `
[forward.cloud]
listen = "443"
host = "cloud.example.com"
to = "127.0.0.1:8443"
via = "home"
`)
	m.start(hub)
	agent := agentUp(t, hub, l.home, "home", "allow = [\"127.0.0.1:8443\"]\n")
	call := func() (net.Conn, error) {
		conn, err := l.visitor.Dial(t.Context(), "tcp", hubAddr+":443")
		if err != nil {
			return nil, err
		}
		t.Cleanup(func() { _ = conn.Close() })
		secret := tls.Client(conn, &tls.Config{ServerName: "cloud.example.com", InsecureSkipVerify: true}) //nolint:gosec // it is there, or not
		return secret, nil
	}
	k, err := call()
	if err == nil {
		err = comesBack(k)
	}
	if err != nil {
		t.Fatal(err)
	}
	calling, enough := context.WithCancel(t.Context())
	defer enough()
	var callers sync.WaitGroup
	for range 2 {
		callers.Go(func() {
			for n := 0; calling.Err() == nil; n++ {
				one, err := call()
				if err == nil {
					err = comesBack(one)
				}
				if err != nil {
					t.Errorf("call %d: %v", n, err)
					return
				}
				_ = one.Close()
			}
		})
	}
	for round := range 3 {
		if !m.stop(hub) {
			t.Fatal("the hub has left nothing")
		}
		early, err := call() // whoever calls meanwhile is answered later
		if err != nil {
			t.Fatal(err)
		}
		m.start(hub)
		waitFor(t, "the manager has read that it was taken over", func() bool { return m.taken() > round })
		if m.taken() != round+1 {
			t.Errorf("round %d: it took over %d times", round, m.taken())
		}
		for _, c := range []net.Conn{early, k} {
			if err := comesBack(c); err != nil {
				t.Errorf("round %d: %v", round, err)
			}
		}
	}
	enough()
	callers.Wait()
	hub.wait("the agent to be back", func() bool { return hub.agents()["home"].State == "up" })
	if t.Failed() {
		t.Logf("agent:\n%s", tail(agent.proc.Output()))
	}
}

// comesBack says something, and waits until it is heard again. A greeting may come before it.
func comesBack(c net.Conn) error {
	const said = "anybody there?"
	if err := c.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		return err
	}
	if _, err := io.WriteString(c, said); err != nil {
		return err
	}
	var heard string
	for buf := make([]byte, 256); !strings.Contains(heard, said); {
		n, err := c.Read(buf)
		if err != nil {
			return fmt.Errorf("after %q: %w", heard, err)
		}
		heard += string(buf[:n])
	}
	return nil
}

// echoTLS says whatever it is told.
func echoTLS(ln net.Listener, c *tls.Config) {
	for {
		conn, err := ln.Accept()
		if err != nil {
			return
		}
		go func() {
			defer conn.Close()
			_ = conn.SetDeadline(time.Now().Add(time.Minute))
			secret := tls.Server(conn, c)
			_, _ = io.Copy(secret, secret)
		}()
	}
}
