package sshwire

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/fairlead-net/fairlead/internal/testport"
)

// patience is how long tests wait for what has to come.
const patience = 20 * time.Second

// eventually waits until ok.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

// program finds another implementation, or skips.
func program(t testing.TB, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		if path = "/usr/sbin/" + name; fileExists(path) {
			return path
		}
		if os.Getenv("FAIRLEAD_NETNS") == "require" {
			t.Fatalf("%s is needed", name)
		}
		t.Skipf("%s is not installed", name)
	}
	return path
}

func fileExists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// A testKey is a private key, with the file that programs want.
type testKey struct {
	ssh.Signer
	file string
}

func newTestKey(t testing.TB) testKey {
	t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return writeTestKey(t, private)
}

func writeTestKey(t testing.TB, private any) testKey {
	t.Helper()
	signer, err := ssh.NewSignerFromKey(private)
	if err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(private, "")
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "id")
	writeFile(t, file, string(pem.EncodeToMemory(block)))
	writeFile(t, file+".pub", string(ssh.MarshalAuthorizedKey(signer.PublicKey())))
	return testKey{signer, file}
}

func writeFile(t testing.TB, name, text string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// freePort is a port of 127.0.0.1 that nobody listens on.
func freePort(t testing.TB) string {
	t.Helper()
	port, err := testport.Free()
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// start runs a program until the test ends. Its output is logged if the test fails.
func start(t testing.TB, name string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(name, args...)
	out := &lockedBuffer{}
	cmd.Stdout, cmd.Stderr = out, out
	cmd.WaitDelay = time.Second // children may outlive it and hold its output
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("%s:\n%s", filepath.Base(name), out)
		}
	})
	return cmd
}

type lockedBuffer struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// waitPort waits until somebody listens.
func waitPort(t testing.TB, port string) {
	t.Helper()
	eventually(t, "port "+port, func() bool {
		c, err := net.Dial("tcp4", "127.0.0.1:"+port)
		if err == nil {
			c.Close()
		}
		return err == nil
	})
}

// startSSHD starts OpenSSH's server for one user's key.
func startSSHD(t testing.TB, user testKey, lines ...string) (port string) {
	t.Helper()
	sshd := program(t, "sshd")
	host := newTestKey(t)
	port = freePort(t)
	conf := filepath.Join(t.TempDir(), "sshd_config")
	writeFile(t, conf, strings.Join(append([]string{
		"HostKey " + host.file, "AuthorizedKeysFile " + user.file + ".pub", "StrictModes no", "UsePAM no", "PidFile none",
		"PermitRootLogin yes", "ListenAddress 127.0.0.1:" + port,
	}, lines...), "\n")+"\n")
	start(t, sshd, "-D", "-e", "-f", conf)
	waitPort(t, port)
	return port
}

func dialTCP(t testing.TB, port string) *net.TCPConn {
	t.Helper()
	c, err := net.Dial("tcp4", "127.0.0.1:"+port)
	if err != nil {
		t.Fatal(err)
	}
	return c.(*net.TCPConn)
}

func me() string {
	if os.Getuid() == 0 {
		return "root"
	}
	return os.Getenv("USER")
}

func clientConfig(keys ...ssh.Signer) *ClientConfig {
	return &ClientConfig{User: me(), Signers: keys, HostKeyCallback: ssh.InsecureIgnoreHostKey(), Timeout: patience}
}

func serverConfig(host ssh.Signer) *ServerConfig {
	return &ServerConfig{
		HostKeys: []ssh.Signer{host}, Timeout: patience,
		PublicKeyCallback: func(ssh.ConnMetadata, ssh.PublicKey) (*ssh.Permissions, error) { return nil, nil },
	}
}

func sshArgs(user testKey, port string, more ...string) []string {
	return append([]string{
		"-F", "none", "-i", user.file, "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "IdentitiesOnly=yes",
		"-o", "LogLevel=VERBOSE", "-o", "BatchMode=yes", "-p", port,
	}, more...)
}
