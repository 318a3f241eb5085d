package sshd

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
)

// keepalive is how soon an impatient server takes a silent client for dead; the clients here answer it.
const keepalive = 200 * time.Millisecond

func impatient(o *Options) { o.Keepalive = keepalive }

func TestAutossh(t *testing.T) {
	autossh := program(t, "autossh")
	key := newTestKey(t)
	s := startServer(t, nil, key.line("", "autossh"))
	target, port := echo(t, "tcp", "127.0.0.1:0", "target").Addr().String(), freePort(t)
	cmd := exec.Command(autossh, append([]string{"-M", "0"}, sshArgs(s, key, "-N", "-R", port+":"+target)...)...)
	cmd.Env = append(os.Environ(), "AUTOSSH_GATETIME=0", "AUTOSSH_POLL=1")
	kill := ownGroup(cmd)
	start(t, cmd)
	t.Cleanup(kill)
	answers(t, "tcp", "127.0.0.1:"+port, "target")
	// The connection is lost; autossh comes back and finds its port free.
	s.mu.Lock()
	for c := range s.clients {
		c.peer.Close()
	}
	s.mu.Unlock()
	eventually(t, "the second login", func() bool { return strings.Count(s.log.String(), "SSH client listens") >= 2 })
	answers(t, "tcp", "127.0.0.1:"+port, "target")
}

func TestDropbear(t *testing.T) {
	dbclient, convert := program(t, "dbclient"), program(t, "dropbearkey")
	file := filepath.Join(t.TempDir(), "id")
	out, err := exec.Command(convert, "-t", "ed25519", "-f", file).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	var line string
	for l := range strings.Lines(string(out)) {
		if strings.HasPrefix(l, "ssh-ed25519 ") {
			line = strings.TrimSpace(l)
		}
	}
	s := startServer(t, impatient, line)
	target := echo(t, "tcp", "127.0.0.1:0", "target").Addr().String()
	local, remote := freePort(t), freePort(t)
	start(t, exec.Command(dbclient, "-y", "-y", "-i", file, "-p", s.port, "-N",
		"-L", "127.0.0.1:"+local+":"+target, "-R", remote+":"+target, "me@127.0.0.1"))
	answers(t, "tcp", "127.0.0.1:"+local, "target")
	answers(t, "tcp", "127.0.0.1:"+remote, "target")
	time.Sleep(5 * keepalive)
	call(t, "tcp", "127.0.0.1:"+remote, "target")
}

func TestPlink(t *testing.T) {
	plink, puttygen := program(t, "plink"), program(t, "puttygen")
	key := newTestKey(t)
	ppk := filepath.Join(t.TempDir(), "id.ppk")
	if out, err := exec.Command(puttygen, key.file, "-o", ppk).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	host := newTestKey(t)
	s := startServer(t, func(o *Options) { o.HostKeys = []ssh.Signer{host}; impatient(o) }, key.line("", "putty"))
	target := echo(t, "tcp", "127.0.0.1:0", "target").Addr().String()
	local, remote := freePort(t), freePort(t)
	args := []string{"-ssh", "-batch", "-no-antispoof", "-i", ppk, "-P", s.port, "-hostkey", ssh.FingerprintSHA256(host.PublicKey()), "-N",
		"-L", "127.0.0.1:" + local + ":" + target, "-R", remote + ":" + target, "me@127.0.0.1"}
	start(t, exec.Command(plink, args...))
	answers(t, "tcp", "127.0.0.1:"+local, "target")
	answers(t, "tcp", "127.0.0.1:"+remote, "target")
	time.Sleep(5 * keepalive)
	call(t, "tcp", "127.0.0.1:"+remote, "target")
}

func TestParamikoAndAsyncssh(t *testing.T) {
	python := "/usr/bin/python3" // the one that the system's modules are for
	if _, err := os.Stat(python); err != nil {
		python = program(t, "python3")
	}
	key := newTestKey(t)
	s := startServer(t, nil, key.line("", "python"))
	target := echo(t, "tcp", "127.0.0.1:0", "target").Addr().String()
	host, port, _ := net.SplitHostPort(target)
	for _, module := range []string{"paramiko", "asyncssh"} {
		t.Run(module, func(t *testing.T) {
			if err := exec.Command(python, "-c", "import "+module).Run(); err != nil {
				if os.Getenv("FAIRLEAD_NETNS") == "require" {
					t.Fatalf("this test needs python's %s", module)
				}
				t.Skipf("this test needs python's %s", module)
			}
			script := fmt.Sprintf("testdata/forward_%s.py", module)
			out, err := exec.Command(python, "-W", "ignore", script, "127.0.0.1", s.port, key.file, host, port, t.TempDir()).CombinedOutput()
			if err != nil || string(out) != "ok\n" {
				t.Errorf("%v: %s", err, out)
			}
		})
	}
}
