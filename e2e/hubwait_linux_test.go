package e2e

import (
	"errors"
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestTunnelWaits: while the agent is away its ports stay open, and who connects waits, as long as the forward says.
func TestTunnelWaits(t *testing.T) {
	needs(t, "nginx", "curl")
	t.Parallel()
	l := newTunnelLab(t)
	nginx(t, l.home, 8080)
	hub := up(t, l.hub, hubFile+`
[forward.patient]
listen = "8100"
to = "127.0.0.1:8080"
via = "home"
connect_timeout = "60s"
[forward.hasty]
listen = "8101"
to = "127.0.0.1:8080"
via = "home"
connect_timeout = "500ms"
`)
	agentUp(t, hub, l.home, "home", "allow = [\"127.0.0.1:8080\"]\n")
	waitFor(t, "the forwards are up", func() bool {
		s := hub.status()
		return s["patient"].State == "up" && s["hasty"].State == "up"
	})
	cut := time.Now()
	l.line.Cut()
	waitFor(t, "the hub has noticed", func() bool { return hub.agents()["home"].State == "waiting" })
	t.Logf("noticed after %v", time.Since(cut).Round(time.Millisecond))
	visit := func(port string) (string, error) {
		out, err := l.visitor.Command(t.Context(), "curl", "-sS", "--max-time", "90", "http://"+hubAddr+":"+port+"/").CombinedOutput()
		return string(out), err
	}
	if out, err := visit("8101"); err == nil {
		t.Errorf("nobody is there, and says %q", out)
	}
	type answer struct {
		text string
		err  error
	}
	got := make(chan answer, 1)
	go func() {
		text, err := visit("8100")
		got <- answer{text, err}
	}()
	select {
	case a := <-got:
		t.Errorf("nobody is there, and the visitor has %q, %v", a.text, a.err)
	case <-time.After(2 * time.Second):
	}
	l.line.Mend()
	if a := <-got; a.err != nil || !strings.Contains(a.text, "hello from home") {
		t.Errorf("%v, %q", a.err, a.text)
	}
}

// TestTunnelUnanswered: a visitor whom an agent dies without answering is served by the next agent, and by the next hub. One whose target does
// not answer is turned away at once, and counted at both ends.
func TestTunnelUnanswered(t *testing.T) {
	t.Parallel()
	for _, transport := range []string{"quic", "tls"} {
		t.Run(transport, func(t *testing.T) {
			t.Parallel()
			l := newTunnelLab(t)
			l.home.Echo(t, "127.0.0.1:8081")
			hub := up(t, l.hub, hubFile)
			agent := agentUp(t, hub, l.home, "home", fmt.Sprintf("transports = %q\n", transport)+`
[forward.talk]
at = "hub"
listen = "8001"
to = "127.0.0.1:8081"
[forward.nobody]
at = "hub"
listen = "8002"
to = "127.0.0.1:8082"
`)
			for _, port := range []int{8001, 8002} {
				waitFor(t, "the hub listens", func() bool { return l.hub.Listening("tcp", port) })
			}
			if err := comesBack(dial(t, l.visitor, "tcp/"+hubAddr+":8001").conn); err != nil {
				t.Fatal(err)
			}
			c, err := l.visitor.Dial(t.Context(), "tcp", hubAddr+":8002")
			if err == nil { // else he was reset before it is there
				_, err = c.Read(make([]byte, 1))
				_ = c.Close()
			}
			if !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("a visitor whom nobody serves sees %v", err)
			}
			waitFor(t, "he is counted", func() bool {
				refused := uint64(0)
				for name, f := range hub.status() {
					if strings.Contains(name, "8002") {
						refused += f.Connections.Refused
					}
				}
				return refused == 1 && agent.status()["nobody"].Connections.Refused == 1
			})

			agent.proc.Signal(syscall.SIGSTOP)
			early := dial(t, l.visitor, "tcp/"+hubAddr+":8001").conn
			agent.proc.Kill()
			agent.start()
			if err := comesBack(early); err != nil {
				t.Errorf("who waited for the next agent: %v", err)
			}

			agent.proc.Signal(syscall.SIGSTOP)
			early = dial(t, l.visitor, "tcp/"+hubAddr+":8001").conn
			hub.run("upgrade", "--binary", binary)
			agent.proc.Signal(syscall.SIGCONT)
			if err := comesBack(early); err != nil {
				t.Errorf("who waited for the next hub: %v", err)
			}
			if t.Failed() {
				t.Logf("hub:\n%s\nagent:\n%s", tail(hub.proc.Output()), tail(agent.proc.Output()))
			}
		})
	}
}
