package sshnode

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/fairlead-net/fairlead/node"
)

func TestJumpOverNode(t *testing.T) {
	t.Parallel()
	a, b := startSSHD(t), startSSHD(t)
	jump := runNode(t, a.spec(), Options{})
	spec := b.spec()
	spec.Jump = "jump"
	n := runNode(t, spec, Options{Through: func(name string) (node.Node, error) {
		if name != "jump" {
			t.Errorf("asked for %q", name)
		}
		return jump, nil
	}})
	c, err := n.Dial(t.Context(), "tcp", echoServer(t, "tcp", "127.0.0.1:0").String())
	if err != nil {
		t.Fatal(err)
	}
	echoes(t, c, 1<<20)
	_ = c.Close()
	a.stop()
	eventually(t, "the node is away with its jump", func() bool { return !n.State().Up })
	eventually(t, "the node says why", func() bool { return strings.Contains(n.State().Why, "waits for the node jump: ") })
	if _, err := New(node.Spec{Name: "x", SSH: spec}, Options{}); err == nil {
		t.Error("New takes a jump that nobody finds")
	}
}

// TestProxyJump goes over two servers that only ssh_config names.
func TestProxyJump(t *testing.T) {
	t.Parallel()
	a, b, c := startSSHD(t), startSSHD(t), startSSHD(t)
	resolve := func(_ context.Context, q Query) (Resolved, error) {
		r := Resolved{}
		switch fmt.Sprintf("%s:%d", q.Host, q.Port) {
		case "c:0":
			if q.Jump {
				t.Error("the target is asked for as a hop")
			}
			// The tokens are filled in here.
			r = Resolved{HostName: "127.0.0.1", ProxyJump: []string{"root@" + a.addr, "b"}, IdentityFiles: []string{c.dir + "/id_%%ed25519"}}
			r.IdentityFiles = []string{c.path("id_ed25519")}
			_, _ = fmt.Sscanf(strings.TrimPrefix(c.addr, "127.0.0.1:"), "%d", &r.Port)
		case a.addr:
			if !q.Jump {
				t.Error("a hop is not asked for as one")
			}
			r.IdentityFiles = []string{a.path("id_ed25519")}
			r.UserKnownHostsFiles = []string{a.path("known_hosts")}
		case "b:0":
			r = Resolved{HostName: "127.0.0.1", User: "root", IdentityFiles: []string{b.path("id_ed25519")}, ProxyJump: []string{"nobody@nowhere"}}
			r.UserKnownHostsFiles = []string{b.path("known_hosts")}
			_, _ = fmt.Sscanf(strings.TrimPrefix(b.addr, "127.0.0.1:"), "%d", &r.Port)
		default:
			return r, errors.New("no such host")
		}
		return r, nil
	}
	n := runNode(t, &node.SSH{Target: "root@c", KnownHosts: []string{c.path("known_hosts")}, Agent: "none"}, Options{Resolve: resolve})
	d, err := n.Dial(t.Context(), "tcp", echoServer(t, "tcp", "127.0.0.1:0").String())
	if err != nil {
		t.Fatal(err)
	}
	echoes(t, d, 1<<20)
	_ = d.Close()
	for _, s := range []*openSSH{a, b} {
		if !strings.Contains(s.read("sshd.log"), "Accepted publickey") {
			t.Errorf("nobody came by %s", s.addr)
		}
	}
}

func TestProxyJumpInACircle(t *testing.T) {
	t.Parallel()
	n := runNode(t, &node.SSH{Target: "me@a", Agent: "none"}, Options{Resolve: func(_ context.Context, q Query) (Resolved, error) {
		return Resolved{ProxyJump: []string{map[string]string{"a": "b", "b": "a"}[q.Host]}, ConnectTimeout: 300 * time.Millisecond}, nil
	}})
	if err := refusal(t, n); !strings.Contains(err.Error(), "by way of b") {
		t.Error(err)
	}
}

func TestProxyCommand(t *testing.T) {
	t.Parallel()
	needs(t, "nc")
	s := startSSHD(t)
	with := func(command string) *Node {
		return runNode(t, s.spec(), Options{Resolve: func(context.Context, Query) (Resolved, error) {
			return Resolved{ProxyCommand: command}, nil
		}})
	}
	n := with("sh -c 'test %r = root && test %% = % && exec nc %h %p'")
	c, err := n.Dial(t.Context(), "tcp", echoServer(t, "tcp", "127.0.0.1:0").String())
	if err != nil {
		t.Fatal(err)
	}
	echoes(t, c, 1<<20)
	_ = c.Close()
	if err := refusal(t, with("echo cannot do that >&2; exit 1")); err == nil {
		t.Error("a command that fails is no error")
	}
}

func TestSettings(t *testing.T) {
	t.Parallel()
	s := startSSHD(t)
	with := func(r Resolved) *Node {
		return runNode(t, s.spec(), Options{Resolve: func(context.Context, Query) (Resolved, error) { return r, nil }})
	}
	up(t, with(Resolved{
		Ciphers: []string{"what", "chacha20-poly1305@openssh.com"}, KexAlgorithms: []string{"curve25519-sha256"},
		MACs: []string{"hmac-sha2-256"}, HostKeyAlgorithms: []string{"ssh-ed25519"}, BindAddress: "127.0.0.1", AddressFamily: "inet",
	}))
	if !strings.Contains(s.read("sshd.log"), "Accepted") {
		t.Error("nobody logged in")
	}
	if err := refusal(t, with(Resolved{Ciphers: []string{"what"}})); !strings.Contains(err.Error(), "Ciphers: none of what is known") {
		t.Error(err)
	}
	e := expander{q: Query{Host: "alias"}, r: &Resolved{HostName: "h", Port: 1, User: "u"}, home: "/home/u"}
	if got := e.path("~/%h_%n_%p_%r_%%_%z_$HOME"); got != "/home/u/h_alias_1_u_%_%z_$HOME" {
		t.Error(got)
	}
}
