package sshd

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/fairlead-net/fairlead/forward"
	"github.com/fairlead-net/fairlead/internal/testport"
	"github.com/fairlead-net/fairlead/node"
	"github.com/fairlead-net/fairlead/node/host"
)

// patience is how long tests wait for what has to come.
const patience = 20 * time.Second

// eventually waits until ok.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

// A testKey is a private key, with the file that programs want.
type testKey struct {
	ssh.Signer
	file string
}

// line is the key as a line of authorized_keys.
func (k testKey) line(options, comment string) string {
	return strings.TrimSpace(options + " " + strings.TrimSpace(string(ssh.MarshalAuthorizedKey(k.PublicKey()))) + " " + comment)
}

func newTestKey(t *testing.T) testKey {
	t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return writeTestKey(t, private)
}

func writeTestKey(t *testing.T, private any) testKey {
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
	if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
		t.Fatal(err)
	}
	public := ssh.MarshalAuthorizedKey(signer.PublicKey())
	if err := os.WriteFile(file+".pub", public, 0o600); err != nil {
		t.Fatal(err)
	}
	return testKey{signer, file}
}

// keysOf is the keys of lines, without a file.
func keysOf(t *testing.T, lines ...string) *Keys {
	t.Helper()
	return newKeys(parseKeys("keys", []byte(strings.Join(lines, "\n")), false, func(where string, err error) {
		t.Errorf("%s: %v", where, err)
	}))
}

// A testServer is a running Server.
type testServer struct {
	*Server
	addr     string
	port     string
	forwards *fakeForwards
	stop     func() // and wait; may be called twice
	log      *logBuffer
}

type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// startServer starts a server on a free port of 127.0.0.1 for the keys in lines.
func startServer(t *testing.T, change func(*Options), lines ...string) *testServer {
	t.Helper()
	keys := keysOf(t, lines...)
	fakes := newFakeForwards()
	logs := &logBuffer{}
	o := Options{
		Log:       slog.New(slog.NewTextHandler(logs, &slog.HandlerOptions{Level: slog.LevelDebug})),
		HostKeys:  []ssh.Signer{newTestKey(t)},
		Authorize: func() (*Keys, error) { return keys, nil },
		Dial: func(ctx context.Context, _ netip.AddrPort, network, addr string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, network, addr)
		},
		Forwards: fakes,
		plain:    os.Getenv(plainEnv) != "",
	}
	if socket, ok := node.Node(host.New()).(node.SocketNode); ok {
		o.Connect = func(to netip.AddrPort) (int, error) { return socket.Connect(to, node.ConnectOptions{}) }
	}
	if change != nil {
		change(&o)
	}
	s, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx, l) }()
	stop := sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-ended:
			if err != nil {
				t.Errorf("Run: %v", err)
			}
		case <-time.After(patience):
			buffer := make([]byte, 1<<20)
			t.Errorf("Run does not end:\n%s", buffer[:runtime.Stack(buffer, true)])
		}
		fakes.closeAll()
	})
	t.Cleanup(func() {
		stop()
		if t.Failed() {
			t.Logf("the server's log:\n%s", logs)
		}
	})
	_, port, _ := net.SplitHostPort(l.Addr().String())
	return &testServer{s, l.Addr().String(), port, fakes, stop, logs}
}

// dial logs in with x/crypto's client.
func (s *testServer) dial(t *testing.T, key testKey) *ssh.Client {
	t.Helper()
	c, err := s.tryDial(ssh.PublicKeys(key.Signer))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func (s *testServer) tryDial(methods ...ssh.AuthMethod) (*ssh.Client, error) {
	return ssh.Dial("tcp", s.addr, &ssh.ClientConfig{
		User: "anyone", Auth: methods, HostKeyCallback: ssh.InsecureIgnoreHostKey(), Timeout: patience,
	})
}

// fakeForwards opens real listeners and carries what comes in to the node.
type fakeForwards struct {
	mu      sync.Mutex
	counter int
	open    map[string]*fakeForward // by name
	running sync.WaitGroup
}

type fakeForward struct {
	key    string
	listen forward.Door
	node   node.Node
	l      net.Listener

	replaced bool // by another client of the key
}

func newFakeForwards() *fakeForwards { return &fakeForwards{open: map[string]*fakeForward{}} }

func (f *fakeForwards) Put(_ context.Context, key string, listen forward.Door, n node.Node) (string, forward.Door, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	picked := !listen.IsUnix() && listen.Ports.Ranges[0].First == 0
	for name, old := range f.open {
		if picked || !old.listen.Equal(listen) {
			continue
		}
		if old.key != key {
			return "", listen, errors.New("another key has it")
		}
		old.node, old.replaced = n, true
		return name, old.listen, nil
	}
	network, addr := "unix", listen.Path
	if !listen.IsUnix() {
		network = "tcp"
		host := ""
		if listen.Addr.IsValid() {
			host = listen.Addr.String()
		}
		addr = net.JoinHostPort(host, strconv.Itoa(int(listen.Ports.Ranges[0].First)))
	}
	l, err := net.Listen(network, addr)
	if err != nil {
		return "", listen, err
	}
	if picked {
		port := l.Addr().(*net.TCPAddr).AddrPort().Port()
		listen.Ports = forward.Ports{Ranges: []forward.Range{{First: port, Last: port}}}
	}
	f.counter++
	name := fmt.Sprintf("ssh-%s-%d", key, f.counter)
	one := &fakeForward{key: key, listen: listen, node: n, l: l}
	f.open[name] = one
	f.running.Go(func() { f.accept(one) })
	return name, listen, nil
}

func (f *fakeForwards) accept(one *fakeForward) {
	for {
		conn, err := one.l.Accept()
		if err != nil {
			return
		}
		f.mu.Lock()
		n := one.node
		f.mu.Unlock()
		f.running.Go(func() { carryTo(n, one.listen.Listen, conn) })
	}
}

func carryTo(n node.Node, listen forward.Listen, conn net.Conn) {
	defer conn.Close()
	network, addr := "tcp", ":"+listen.Ports.String()
	if listen.IsUnix() {
		network, addr = "unix", listen.Path
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	far, err := n.(node.Introducer).DialFor(ctx, addrPortOf(conn.RemoteAddr()), network, addr)
	if err != nil {
		return
	}
	defer far.Close()
	var running sync.WaitGroup
	running.Go(func() { _, _ = io.Copy(far, conn); closeWrite(far) })
	_, _ = io.Copy(conn, far)
	closeWrite(conn)
	running.Wait()
}

func (f *fakeForwards) Delete(_ context.Context, name string, n node.Node) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if one := f.open[name]; one != nil && one.node == n {
		delete(f.open, name)
		return one.l.Close()
	}
	return nil
}

func (f *fakeForwards) closeAll() {
	f.mu.Lock()
	for _, one := range f.open {
		one.l.Close()
	}
	f.mu.Unlock()
}

// places is where clients listen now.
func (f *fakeForwards) places() []forward.Listen {
	f.mu.Lock()
	defer f.mu.Unlock()
	var list []forward.Listen
	for _, one := range f.open {
		list = append(list, one.listen.Listen)
	}
	return list
}

// echo answers "name: " and each line that it gets, until its client has ended; then it says "end".
func echo(t *testing.T, network, addr, name string) net.Listener {
	t.Helper()
	l, err := net.Listen(network, addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go answerAs(conn, name)
		}
	}()
	return l
}

func answerAs(conn net.Conn, name string) {
	defer conn.Close()
	r := bufio.NewReader(conn)
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			fmt.Fprintf(conn, "%s: end\n", name)
			return
		}
		fmt.Fprintf(conn, "%s: %s", name, line)
	}
}

// call says a line to addr, ends its direction, and wants what echo says to that.
func call(t *testing.T, network, addr, name string) {
	t.Helper()
	if err := tryCall(network, addr, name); err != nil {
		t.Errorf("%s: %v", addr, err)
	}
}

func tryCall(network, addr, name string) error {
	conn, err := net.DialTimeout(network, addr, patience)
	if err != nil {
		return err
	}
	return tryTalk(conn, name)
}

func tryTalk(conn net.Conn, name string) error {
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(patience)) // x/crypto's own channels have none
	if _, err := io.WriteString(conn, "hello\n"); err != nil {
		return err
	}
	closeWrite(conn)
	got, err := io.ReadAll(conn)
	if want := fmt.Sprintf("%s: hello\n%s: end\n", name, name); err != nil || string(got) != want {
		return fmt.Errorf("got %q (%v), want %q", got, err, want)
	}
	return nil
}

// program is the path of a program that a test needs.
func program(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		if os.Getenv("FAIRLEAD_NETNS") == "require" {
			t.Fatalf("this test needs %s: %v", name, err)
		}
		t.Skipf("this test needs %s: %v", name, err)
	}
	return path
}

// start runs a program until the test ends, or until the function that it returns is called.
func start(t *testing.T, cmd *exec.Cmd) (stop func(), output *logBuffer) {
	t.Helper()
	output = &logBuffer{}
	cmd.Stdout, cmd.Stderr = output, output
	cmd.WaitDelay = time.Second
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	stop = sync.OnceFunc(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	t.Cleanup(func() {
		stop()
		if t.Failed() {
			t.Logf("%s said:\n%s", filepath.Base(cmd.Path), output)
		}
	})
	return stop, output
}

// freePort is a port of 127.0.0.1 that nobody had a moment ago.
func freePort(t *testing.T) string {
	t.Helper()
	port, err := testport.Free()
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// checkLeaks returns a function that waits until there are no more goroutines and files than now.
func checkLeaks(t *testing.T) func() {
	t.Helper()
	goroutines, files := runtime.NumGoroutine(), openFiles()
	return func() {
		t.Helper()
		for end := time.Now().Add(patience); runtime.NumGoroutine() > goroutines || openFiles() > files; time.Sleep(5 * time.Millisecond) {
			if time.Now().After(end) {
				buffer := make([]byte, 1<<20)
				t.Fatalf("%d goroutines and %d files, there were %d and %d:\n%s", runtime.NumGoroutine(), openFiles(), goroutines, files,
					buffer[:runtime.Stack(buffer, true)])
			}
		}
	}
}

// openFiles counts where the system shows them.
func openFiles() int {
	list, _ := os.ReadDir("/proc/self/fd")
	return len(list)
}

// recordingForwards opens nothing.
type recordingForwards struct {
	mu   sync.Mutex
	text string
}

func (r *recordingForwards) Put(_ context.Context, _ string, l forward.Door, _ node.Node) (string, forward.Door, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.text = l.String()
	return "name", l, nil
}

func (r *recordingForwards) Delete(context.Context, string, node.Node) error { return nil }

func (r *recordingForwards) last() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.text
}

// sshW is what comes back through ssh -W after a line.
func sshW(s *testServer, key testKey, target string) (string, error) {
	cmd := exec.Command("ssh", sshArgs(s, key, "-W", target)...)
	cmd.Stdin = strings.NewReader("hello\n")
	out, err := cmd.Output()
	return string(out), err
}
