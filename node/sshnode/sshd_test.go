package sshnode

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/fairlead-net/fairlead/internal/testport"
	"github.com/fairlead-net/fairlead/node"
)

const patience = 10 * time.Second

// needs skips a test where a program is not installed, or fails it where nothing may be skipped.
func needs(t testing.TB, programs ...string) {
	t.Helper()
	for _, name := range programs {
		if _, err := exec.LookPath(name); err != nil {
			if os.Getenv("FAIRLEAD_NETNS") == "require" {
				t.Fatal(err)
			}
			t.Skip(err)
		}
	}
}

func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain until %s", what)
		}
	}
}

// An openSSH is a real sshd on loopback, with a directory of keys.
type openSSH struct {
	t     testing.TB
	dir   string
	addr  string
	cmd   *exec.Cmd
	lines []string
	log   *os.File
}

func startSSHD(t testing.TB, lines ...string) *openSSH {
	t.Helper()
	path, err := exec.LookPath("sshd")
	if err != nil {
		path = "/usr/sbin/sshd"
	}
	needs(t, path, "ssh-keygen")
	if os.Getuid() != 0 {
		if os.Getenv("FAIRLEAD_NETNS") == "require" {
			t.Fatal("sshd needs root to log root in")
		}
		t.Skip("sshd needs root to log root in")
	}
	_ = os.MkdirAll("/run/sshd", 0o755)
	port, err := testport.Free()
	if err != nil {
		t.Fatal(err)
	}
	s := &openSSH{t: t, dir: t.TempDir(), addr: "127.0.0.1:" + port, lines: lines}
	// sshd refuses keys in directories that others can write to; those of tests are deep enough in /tmp.
	for _, name := range []string{"host_ed25519", "id_ed25519"} {
		s.write(name+".pub", string(ssh.MarshalAuthorizedKey(writeKey(t, s.path(name)))))
	}
	s.write("authorized_keys", s.read("id_ed25519.pub"))
	s.knows("host_ed25519.pub")
	s.start()
	t.Cleanup(s.stop)
	return s
}

func (s *openSSH) path(name string) string { return filepath.Join(s.dir, name) }

func (s *openSSH) read(name string) string {
	s.t.Helper()
	text, err := os.ReadFile(s.path(name))
	if err != nil {
		s.t.Fatal(err)
	}
	return string(text)
}

func (s *openSSH) write(name, text string) {
	s.t.Helper()
	if err := os.WriteFile(s.path(name), []byte(text), 0o600); err != nil {
		s.t.Fatal(err)
	}
}

func (s *openSSH) keygen(name string, args ...string) {
	s.t.Helper()
	run(s.t, "ssh-keygen", append([]string{"-q", "-N", "", "-C", name, "-f", s.path(name)}, args...)...)
}

func run(t testing.TB, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// knows writes known_hosts with one key for the server.
func (s *openSSH) knows(public string) {
	host, port, _ := net.SplitHostPort(s.addr)
	s.write("known_hosts", fmt.Sprintf("[%s]:%s %s", host, port, s.read(public)))
}

func (s *openSSH) start() {
	s.t.Helper()
	host, port, _ := net.SplitHostPort(s.addr)
	base := []string{
		"ListenAddress " + host + ":" + port, "PidFile none", "UsePAM no", "PermitRootLogin yes", "StrictModes no",
		"AuthorizedKeysFile " + s.path("authorized_keys"), "PasswordAuthentication no", "KbdInteractiveAuthentication no",
		"AllowTcpForwarding yes", "AllowStreamLocalForwarding yes", "GatewayPorts clientspecified", "LogLevel VERBOSE",
		"MaxStartups 1000", "MaxSessions 1000", "PerSourceMaxStartups none",
	}
	if !strings.Contains(strings.Join(s.lines, "\n"), "HostKey ") {
		base = append(base, "HostKey "+s.path("host_ed25519"))
	}
	// The first of several lines holds.
	s.write("sshd_config", strings.Join(append(append([]string{}, s.lines...), base...), "\n")+"\n")
	log, err := os.OpenFile(s.path("sshd.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		s.t.Fatal(err)
	}
	s.log = log
	s.cmd = exec.Command("/usr/sbin/sshd", "-f", s.path("sshd_config"), "-D", "-e")
	s.cmd.Stderr = log
	isolate(s.cmd)
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	for deadline := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		c, err := net.Dial("tcp", s.addr)
		if err == nil {
			_ = c.Close()
			return
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("sshd does not start: %v\n%s", err, s.read("sshd.log"))
		}
	}
}

// stop ends the server with all its connections.
func (s *openSSH) stop() {
	if s.cmd == nil {
		return
	}
	killGroup(s.cmd)
	_ = s.cmd.Wait()
	_ = s.log.Close()
	s.cmd = nil
}

// spec is a node of the server, with the usual key.
func (s *openSSH) spec() *node.SSH {
	return &node.SSH{
		Target: "root@" + s.addr, Identities: []string{s.path("id_ed25519")}, KnownHosts: []string{s.path("known_hosts")}, Agent: "none",
	}
}

// testLog shows what a node logs when a test fails.
func testLog(t testing.TB) *slog.Logger {
	return slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// runNode runs a node until the test ends.
func runNode(t testing.TB, spec *node.SSH, o Options) *Node {
	t.Helper()
	if o.Log == nil {
		o.Log = testLog(t)
	}
	n, err := New(node.Spec{Name: "far", SSH: spec}, o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- n.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		select {
		case <-done:
		case <-time.After(patience):
			t.Error("Run does not return")
		}
	})
	return n
}

// up waits until the node is up.
func up(t testing.TB, n *Node) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := n.Ready(ctx); err != nil {
		t.Fatal(err)
	}
}

// refusal waits until connecting has failed, and says how.
func refusal(t testing.TB, n *Node) error {
	t.Helper()
	eventually(t, "connecting fails", func() bool { return n.Err() != nil || n.State().Up })
	if n.State().Up {
		t.Fatal("the node is up")
	}
	return n.Err()
}

// echoServer answers with what it reads, on this host.
func echoServer(t testing.TB, network, addr string) net.Addr {
	t.Helper()
	l, err := net.Listen(network, addr)
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
			go func() {
				defer c.Close()
				_, _ = io.Copy(c, c)
			}()
		}
	}()
	return l.Addr()
}

// echoes sends bytes and wants them back.
func echoes(t testing.TB, c net.Conn, size int) {
	t.Helper()
	want := bytes.Repeat([]byte("fairlead"), size/8)
	go func() {
		_, _ = c.Write(want)
		_ = c.(interface{ CloseWrite() error }).CloseWrite()
	}()
	_ = c.SetReadDeadline(time.Now().Add(patience))
	got, err := io.ReadAll(c)
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("%d bytes came back, %v; want the %d that were sent", len(got), err, len(want))
	}
}

// newSigner makes a key.
func newSigner(t testing.TB) ssh.Signer {
	t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return signer
}

// writeKey makes a key in a file.
func writeKey(t testing.TB, path string) ssh.PublicKey {
	t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(private, "")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return signer.PublicKey()
}
