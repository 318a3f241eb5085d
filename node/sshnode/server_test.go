package sshnode

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/fairlead-net/fairlead/internal/sshchan"
	"github.com/fairlead-net/fairlead/node"
)

// A server is an SSH server in this process, for what OpenSSH does not do.
type server struct {
	addr   string
	config *ssh.ServerConfig
	known  string
}

// startServer calls serve for every client who has logged in.
func startServer(t *testing.T, config *ssh.ServerConfig, serve func(*ssh.ServerConn, <-chan ssh.NewChannel, <-chan *ssh.Request)) *server {
	t.Helper()
	key := newSigner(t)
	config.AddHostKey(key)
	if config.PublicKeyCallback == nil && config.PasswordCallback == nil && config.KeyboardInteractiveCallback == nil {
		config.NoClientAuth = true
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	s := &server{addr: l.Addr().String(), config: config, known: filepath.Join(t.TempDir(), "known_hosts")}
	if err := os.WriteFile(s.known, []byte("* "+string(ssh.MarshalAuthorizedKey(key.PublicKey()))), 0o600); err != nil {
		t.Fatal(err)
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				conn, chans, reqs, err := ssh.NewServerConn(c, config)
				if err != nil {
					return
				}
				defer conn.Close()
				serve(conn, chans, reqs)
				_ = conn.Wait()
			}()
		}
	}()
	return s
}

func (s *server) spec() *node.SSH {
	return &node.SSH{Target: "somebody@" + s.addr, KnownHosts: []string{s.known}, Agent: "none", Identities: []string{"/nonexistent"}}
}

func ignore(_ *ssh.ServerConn, chans <-chan ssh.NewChannel, reqs <-chan *ssh.Request) {
	go ssh.DiscardRequests(reqs)
	for ch := range chans {
		_ = ch.Reject(ssh.Prohibited, "no\x1b[2J\r\nsuch luck")
	}
}

func TestPasswords(t *testing.T) {
	t.Parallel()
	wrong := errors.New("wrong")
	right := func(_ ssh.ConnMetadata, p []byte) (*ssh.Permissions, error) {
		if string(p) == "open sesame" {
			return nil, nil
		}
		return nil, wrong
	}
	dialogue := func(c ssh.ConnMetadata, ask ssh.KeyboardInteractiveChallenge) (*ssh.Permissions, error) {
		got, err := ask("Vault", "Careful.", []string{"Password: "}, []bool{false})
		if err != nil || len(got) != 1 {
			return nil, wrong
		}
		return right(c, []byte(got[0]))
	}
	for name, config := range map[string]*ssh.ServerConfig{
		"password":    {PasswordCallback: right, MaxAuthTries: 10},
		"interactive": {KeyboardInteractiveCallback: dialogue, MaxAuthTries: 10},
		"both in turn": {MaxAuthTries: 10, PasswordCallback: func(c ssh.ConnMetadata, p []byte) (*ssh.Permissions, error) {
			if _, err := right(c, p); err != nil {
				return nil, err
			}
			return nil, &ssh.PartialSuccessError{Next: ssh.ServerAuthCallbacks{KeyboardInteractiveCallback: dialogue}}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			var conns atomic.Int32
			s := startServer(t, config, func(c *ssh.ServerConn, chans <-chan ssh.NewChannel, reqs <-chan *ssh.Request) {
				if conns.Add(1) == 1 {
					return // ends in a moment, below
				}
				ignore(c, chans, reqs)
			})
			var asked atomic.Int32
			n := runNode(t, s.spec(), Options{Ask: func(_ context.Context, prompt string, echo bool) (string, error) {
				if !strings.Contains(strings.ToLower(prompt), "password:") || echo {
					t.Errorf("asked %q, echo %v", prompt, echo)
				}
				if asked.Add(1) == 1 {
					return "a mistake", nil
				}
				return "open sesame", nil
			}})
			up(t, n)
			before := asked.Load()
			n.mu.Lock()
			first := n.links[0]
			n.mu.Unlock()
			first.kill(errors.New("a test"))
			<-first.done
			up(t, n)
			if got := asked.Load(); got != before {
				t.Errorf("asked %d times more for a connection that came back", got-before)
			}
		})
	}

	s := startServer(t, &ssh.ServerConfig{PasswordCallback: right, MaxAuthTries: 10}, ignore)
	n := runNode(t, s.spec(), Options{Ask: func(context.Context, string, bool) (string, error) { return "a mistake", nil }})
	var auth *AuthError
	if err := refusal(t, n); !errors.As(err, &auth) || len(auth.Tried) != 3 {
		t.Errorf("%v, want an AuthError after three tries", err)
	}
}

func TestHostileServers(t *testing.T) {
	t.Parallel()
	raw := func(t *testing.T, say string) string {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = l.Close() })
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				t.Cleanup(func() { _ = c.Close() })
				go func() { _, _ = io.WriteString(c, say); _, _ = io.Copy(io.Discard, c) }()
			}
		}()
		return l.Addr().String()
	}
	for name, say := range map[string]string{
		"silent":         "",
		"talks for ever": strings.Repeat("hello\r\n", 5000),
		"one long line":  strings.Repeat("x", 1<<20),
		"not SSH":        "HTTP/1.1 400 Bad Request\r\n\r\n",
		"stops after":    "SSH-2.0-x\r\n",
		"garbage":        "SSH-2.0-x\r\n" + strings.Repeat("\xff\x00\x80", 10000),
		"absurd length":  "SSH-2.0-x\r\n\xff\xff\xff\xff\x00",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := runNode(t, &node.SSH{Target: raw(t, say), Agent: "none"}, Options{
				Resolve: func(context.Context, Query) (Resolved, error) {
					return Resolved{ConnectTimeout: 200 * time.Millisecond}, nil
				},
			})
			if err := refusal(t, n); !strings.HasPrefix(err.Error(), "127.0.0.1:") || len(err.Error()) > 1000 {
				t.Error(err)
			}
		})
	}
}

func TestServerSaysNo(t *testing.T) {
	t.Parallel()
	s := startServer(t, &ssh.ServerConfig{}, ignore)
	n := runNode(t, s.spec(), Options{})
	_, err := n.Dial(t.Context(), "tcp", "192.0.2.1:80")
	if !errors.Is(err, node.ErrRefused) || strings.ContainsAny(err.Error(), "\x1b\r\n") || !strings.Contains(err.Error(), "such luck") {
		t.Errorf("%q", err)
	}
}

func TestServerThatDoesNotAnswer(t *testing.T) {
	t.Parallel()
	bothWays(t, func(t *testing.T, o Options) {
		s := startServer(t, &ssh.ServerConfig{}, func(_ *ssh.ServerConn, chans <-chan ssh.NewChannel, reqs <-chan *ssh.Request) {
			go func() {
				for range reqs { // and no reply
				}
			}()
			for range chans {
			}
		})
		spec := s.spec()
		spec.Keepalive = 50 * time.Millisecond
		n := runNode(t, spec, o)
		var first *link // which soon goes, and then there is another one
		eventually(t, "there is a connection", func() bool {
			n.mu.Lock()
			defer n.mu.Unlock()
			if len(n.links) > 0 {
				first = n.links[0]
			}
			return first != nil
		})
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		defer cancel()
		if _, err := n.Dial(ctx, "tcp", "192.0.2.1:80"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Dial: %v", err)
		}
		<-first.done
		var why error
		eventually(t, "the node says why", func() bool { why = n.Err(); return first.channels.Load() == 0 && why != nil })
		if !strings.Contains(why.Error(), "no answer for") {
			t.Error(why)
		}
	})
}

// TestServerThatAnswersIsKept has an idle connection asked many times: whoever answers lives.
func TestServerThatAnswersIsKept(t *testing.T) {
	t.Parallel()
	var asked atomic.Int32
	s := startServer(t, &ssh.ServerConfig{}, func(_ *ssh.ServerConn, chans <-chan ssh.NewChannel, reqs <-chan *ssh.Request) {
		go func() {
			for r := range reqs {
				asked.Add(1)
				_ = r.Reply(false, nil)
			}
		}()
		for range chans {
		}
	})
	spec := s.spec()
	// Many that may be missed, and many more that are asked: a machine that is busy does not look like a server that is silent.
	spec.Keepalive = 50 * time.Millisecond
	n := runNode(t, spec, Options{Resolve: func(context.Context, Query) (Resolved, error) { return Resolved{ServerAliveCountMax: 20}, nil }})
	up(t, n)
	n.mu.Lock()
	first := n.links[0]
	n.mu.Unlock()
	eventually(t, "the server was asked often", func() bool { return asked.Load() > 30 })
	if !first.alive() {
		t.Errorf("the connection was given up: %v", first.reason)
	}
}

// TestFlood has a server open channels that nobody asked for, and more of the others than anybody takes.
func TestFlood(t *testing.T) {
	t.Parallel()
	bothWays(t, func(t *testing.T, o Options) {
		const flood = 1000
		results := make(chan map[ssh.RejectionReason]int, 1)
		s := startServer(t, &ssh.ServerConfig{}, func(c *ssh.ServerConn, chans <-chan ssh.NewChannel, reqs <-chan *ssh.Request) {
			go func() {
				for ch := range chans {
					_ = ch.Reject(ssh.ConnectionFailed, "")
				}
			}()
			for r := range reqs {
				if r.Type != sshchan.Forward {
					_ = r.Reply(false, nil)
					continue
				}
				_ = r.Reply(true, nil)
				break
			}
			go ssh.DiscardRequests(reqs)
			counts := map[ssh.RejectionReason]int{}
			answered := make(chan ssh.RejectionReason, 4*flood)
			for i := range flood {
				for _, open := range []struct {
					kind string
					msg  any
				}{
					{sshchan.Forwarded, &sshchan.TCPChannel{Host: "192.0.2.1", Port: 9999, OriginHost: "192.0.2.2", OriginPort: 1}},
					{sshchan.Forwarded, &sshchan.TCPChannel{Host: "192.0.2.1", Port: 1234, OriginHost: fmt.Sprintf("client %d", i), OriginPort: 1}},
					{"session", &sshchan.PortAnswer{}},
				} {
					go func() {
						_, _, err := c.OpenChannel(open.kind, ssh.Marshal(open.msg))
						var refused *ssh.OpenChannelError
						if errors.As(err, &refused) {
							answered <- refused.Reason
						}
					}()
				}
			}
			for range 3*flood - acceptQueue {
				select {
				case r := <-answered:
					counts[r]++
				case <-time.After(patience):
				}
			}
			results <- counts
			_ = c.Wait()
		})
		n := runNode(t, s.spec(), o)
		l, err := n.Listen(t.Context(), "tcp", "somehost:1234")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		counts := <-results
		// Which of the two reasons it is depends on how much waits.
		if counts[ssh.UnknownChannelType] != flood || counts[ssh.Prohibited]+counts[ssh.ResourceShortage] != 2*flood-acceptQueue {
			t.Errorf("refused %v", counts)
		}
		for range acceptQueue {
			c, err := l.Accept()
			if err != nil {
				t.Fatal(err)
			}
			if !strings.HasPrefix(c.RemoteAddr().String(), "client ") {
				t.Errorf("RemoteAddr is %s", c.RemoteAddr())
			}
			_ = c.Close()
		}
	})
}

// TestStderr has a server send what the protocol has no place for in such channels. It fills a window and harms that channel
// alone.
func TestStderr(t *testing.T) {
	t.Parallel()
	s := startServer(t, &ssh.ServerConfig{}, func(_ *ssh.ServerConn, chans <-chan ssh.NewChannel, reqs <-chan *ssh.Request) {
		go ssh.DiscardRequests(reqs)
		for ch := range chans {
			c, reqs, err := ch.Accept()
			if err != nil {
				return
			}
			go ssh.DiscardRequests(reqs)
			go func() { // nobody asked for it on stderr
				for {
					if _, err := c.Stderr().Write(make([]byte, 32<<10)); err != nil {
						return
					}
				}
			}()
		}
	})
	n := runNode(t, s.spec(), Options{})
	for range 2 {
		c, err := n.Dial(t.Context(), "tcp", "192.0.2.1:80")
		if err != nil {
			t.Fatal(err)
		}
		_ = c.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
		if _, err := io.ReadAll(c); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Error(err)
		}
		_ = c.Close()
	}
}
