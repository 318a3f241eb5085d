package sshnode

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/fairlead-net/fairlead/node"
)

// answers returns an Ask that gives one answer to prompts with a word, and counts them.
func answers(t *testing.T, word, answer string) (func(context.Context, string, bool) (string, error), *atomic.Int32) {
	count := new(atomic.Int32)
	return func(_ context.Context, prompt string, echo bool) (string, error) {
		if !strings.Contains(prompt, word) {
			t.Errorf("asked %q, want something with %q", prompt, word)
			return "", errors.New("not that")
		}
		count.Add(1)
		return answer, nil
	}, count
}

func TestKeyTypes(t *testing.T) {
	t.Parallel()
	s := startSSHD(t)
	s.keygen("id_ecdsa", "-t", "ecdsa", "-b", "384")
	s.keygen("id_rsa", "-t", "rsa", "-b", "1024")
	s.keygen("id_pem", "-t", "rsa", "-b", "1024", "-m", "PEM")
	s.keygen("id_secret", "-t", "ed25519", "-a", "1", "-N", "open sesame")
	s.keygen("id_pemsecret", "-t", "ecdsa", "-m", "PEM", "-N", "open sesame")
	ask, asked := answers(t, "Enter passphrase for key '"+s.dir, "open sesame")
	for _, key := range []string{"id_ed25519", "id_ecdsa", "id_rsa", "id_pem", "id_secret", "id_pemsecret"} {
		s.write("authorized_keys", s.read(key+".pub"))
		spec := s.spec()
		spec.Identities = []string{s.path(key)}
		spec.Connections = 2 // nobody is asked for the second
		before := asked.Load()
		n := runNode(t, spec, Options{Ask: ask})
		eventually(t, "two connections with "+key, func() bool {
			n.mu.Lock()
			defer n.mu.Unlock()
			return len(n.links) == 2
		})
		want := int32(0)
		if strings.Contains(key, "secret") {
			want = 1
		}
		if got := asked.Load() - before; got != want {
			t.Errorf("%s: asked %d times, want %d", key, got, want)
		}
	}
}

func TestLoginRefused(t *testing.T) {
	t.Parallel()
	s := startSSHD(t, "PasswordAuthentication yes")
	s.keygen("id_secret", "-t", "ed25519", "-a", "1", "-N", "open sesame")
	s.keygen("id_other", "-t", "ed25519")
	s.keygen("id_open", "-t", "ed25519")
	s.write("authorized_keys", s.read("id_secret.pub")+s.read("id_open.pub"))
	if err := os.Chmod(s.path("id_open"), 0o644); err != nil {
		t.Fatal(err)
	}
	spec := s.spec()
	spec.Identities = []string{s.path("id_other"), s.path("id_missing"), s.path("id_open"), s.path("id_secret")}
	err := refusal(t, runNode(t, spec, Options{}))
	var auth *AuthError
	if !errors.As(err, &auth) || !Permanent(err) {
		t.Fatalf("%v, want an AuthError", err)
	}
	for _, want := range []string{
		"id_other (SHA256:", "id_missing: no such file", "id_open can be read by others (0644)", "chmod 600",
		"id_secret has a passphrase, and there is nobody to ask", "it takes publickey, password", "the server takes password, but there is nobody to ask",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q lacks %q", err, want)
		}
	}

	// A key that does not open does not keep the next one from being tried.
	s.write("authorized_keys", s.read("id_secret.pub")+s.read("id_ed25519.pub"))
	spec = s.spec()
	spec.Identities = []string{s.path("id_secret"), s.path("id_ed25519")}
	up(t, runNode(t, spec, Options{}))
}

func TestCertificates(t *testing.T) {
	t.Parallel()
	s := startSSHD(t)
	s.keygen("ca", "-t", "ed25519")
	for _, key := range []string{"id_ecdsa", "id_rsa"} {
		s.keygen(key, "-t", strings.TrimPrefix(key, "id_"))
		run(t, "ssh-keygen", "-q", "-s", s.path("ca"), "-I", "somebody", "-n", "root", s.path(key+".pub"))
	}
	s.write("authorized_keys", "cert-authority "+s.read("ca.pub"))
	for _, key := range []string{"id_ecdsa", "id_rsa"} {
		spec := s.spec()
		spec.Identities = []string{s.path(key)}
		up(t, runNode(t, spec, Options{}))
	}
	if err := os.Rename(s.path("id_ecdsa-cert.pub"), s.path("elsewhere.pub")); err != nil {
		t.Fatal(err)
	}
	spec := s.spec()
	spec.Identities = []string{s.path("id_ecdsa")}
	up(t, runNode(t, spec, Options{Resolve: func(context.Context, Query) (Resolved, error) {
		return Resolved{CertificateFiles: []string{s.path("elsewhere.pub")}}, nil
	}}))
	err := refusal(t, runNode(t, spec, Options{}))
	if auth := new(AuthError); !errors.As(err, &auth) {
		t.Errorf("%v, want an AuthError", err)
	}
}

// startAgent runs an ssh-agent with some keys.
func startAgent(t *testing.T, keys ...string) string {
	t.Helper()
	needs(t, "ssh-agent", "ssh-add")
	dir, err := os.MkdirTemp("", "agent") // a short path, as sockets want it
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	sock := dir + "/s"
	cmd := exec.Command("ssh-agent", "-D", "-a", sock)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	eventually(t, "the agent runs", func() bool { _, err := os.Stat(sock); return err == nil })
	for _, key := range keys {
		add := exec.Command("ssh-add", "-q", key)
		add.Env = append(os.Environ(), "SSH_AUTH_SOCK="+sock)
		if out, err := add.CombinedOutput(); err != nil {
			t.Fatalf("ssh-add: %v\n%s", err, out)
		}
	}
	return sock
}

func TestAgent(t *testing.T) {
	t.Parallel()
	s := startSSHD(t)
	s.keygen("id_rsa", "-t", "rsa", "-b", "1024")
	s.keygen("id_agent", "-t", "ecdsa")
	s.keygen("id_cert", "-t", "ed25519")
	s.keygen("ca", "-t", "ed25519")
	run(t, "ssh-keygen", "-q", "-s", s.path("ca"), "-I", "somebody", "-n", "root", s.path("id_cert.pub"))
	sock := startAgent(t, s.path("id_ed25519"), s.path("id_rsa"), s.path("id_agent"), s.path("id_cert"))
	for _, key := range []string{"id_rsa", "id_agent", "id_cert"} {
		s.write("authorized_keys", s.read(key+".pub"))
		if key == "id_cert" {
			s.write("authorized_keys", "cert-authority "+s.read("ca.pub"))
		}
		spec := s.spec()
		spec.Agent = sock
		spec.Identities = []string{s.path("id_ed25519")}
		up(t, runNode(t, spec, Options{}))
	}

	// The key that is named is offered first, though the agent has it last; and with IdentitiesOnly it alone.
	_ = os.Remove(s.path("id_agent")) // the public half names it
	spec := s.spec()
	spec.Agent = sock
	spec.Identities = []string{s.path("id_agent")}
	n := runNode(t, spec, Options{Resolve: func(context.Context, Query) (Resolved, error) {
		return Resolved{IdentitiesOnly: true}, nil
	}})
	var auth *AuthError
	if err := refusal(t, n); !errors.As(err, &auth) || len(auth.Tried) != 1 || !strings.HasPrefix(auth.Tried[0], "id_agent (") {
		t.Errorf("%v, want an AuthError that has tried id_agent only", err)
	}
	spec.Agent = sock + "gone"
	if err := refusal(t, runNode(t, spec, Options{})); !strings.Contains(err.Error(), "no agent at "+sock+"gone") {
		t.Error(err)
	}
}

func TestMustConnect(t *testing.T) {
	t.Parallel()
	n, err := New(node.Spec{Name: "far", SSH: &node.SSH{Target: "root@127.0.0.1:1", Agent: "none"}}, Options{MustConnect: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := n.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "127.0.0.1:1: ") {
		t.Errorf("Run: %v", err)
	}
	if _, err := n.Client(t.Context()); !errors.Is(err, node.ErrClosed) || !strings.Contains(err.Error(), "refused") {
		t.Errorf("Client: %v", err)
	}
}
