package relay

import (
	"bufio"
	"cmp"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/fairlead-net/fairlead/node"
	"github.com/fairlead-net/fairlead/node/host"
)

// scarce is this host with listeners that run out of descriptors, and later dials that do.
type scarce struct {
	*host.Node
	accept, dial atomic.Int32 // how many calls fail
}

func (s *scarce) Listen(ctx context.Context, network, addr string) (net.Listener, error) {
	l, err := s.Node.Listen(ctx, network, addr)
	return &scarceListener{l, s}, err
}

func (s *scarce) Dial(ctx context.Context, network, addr string) (net.Conn, error) {
	if s.dial.Add(-1) >= 0 {
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: os.NewSyscallError("socket", syscall.EMFILE)}
	}
	return s.Node.Dial(ctx, network, addr)
}

type scarceListener struct {
	net.Listener
	s *scarce
}

func (l *scarceListener) Accept() (net.Conn, error) {
	if l.s.accept.Add(-1) >= 0 {
		return nil, &net.OpError{Op: "accept", Net: "tcp", Err: os.NewSyscallError("accept4", syscall.EMFILE)}
	}
	return l.Listener.Accept()
}

func TestOutOfDescriptors(t *testing.T) {
	target := serve(t, "tcp", "127.0.0.1:0", echo).String()
	port := freePort(t)
	s := &scarce{Node: host.New()}
	s.accept.Store(5)
	r := startRelayOn(t, node.Node(s))
	apply(t, r, fwd(t, "x", port, target))
	paused := func() bool {
		return strings.HasPrefix(r.Stats()["x"].Note, "accepting is paused: out of file descriptors (limit ")
	}
	eventually(t, "the note", paused)
	ask(t, dial(t, "tcp", "127.0.0.1:"+port), "hello")
	eventually(t, "the note to go", func() bool { return r.Stats()["x"].Note == "" })

	s.dial.Store(1)
	turnedAwayAt(t, "127.0.0.1", "127.0.0.1:"+port)
	eventually(t, "the note", paused)
	refusedBecomes(t, r, "x", 1)
	ask(t, dial(t, "tcp", "127.0.0.1:"+port), "hello")
}

// TestDescriptorLimit runs a relay under a real limit, in a process of its own because the limit is the whole process's.
func TestDescriptorLimit(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("sets RLIMIT_NOFILE")
	}
	const variable = "FAIRLEAD_TEST_TARGET"
	if target := os.Getenv(variable); target != "" {
		relayUntilEOF(t, target)
		return
	}
	cmd := exec.CommandContext(t.Context(), "sh", "-c", `ulimit -n 64 && exec "$0" -test.run '^TestDescriptorLimit$'`, os.Args[0])
	cmd.Env = append(os.Environ(), variable+"="+serve(t, "tcp", "127.0.0.1:0", echo).String())
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(stdout)
	expect := func(prefix string) string {
		t.Helper()
		for lines.Scan() {
			if rest, ok := strings.CutPrefix(lines.Text(), prefix); ok {
				return rest
			}
		}
		t.Fatalf("the relay ended and did not say %q", prefix)
		return ""
	}
	addr := "127.0.0.1:" + expect("port ")
	var conns []net.Conn
	for range 60 { // each takes two descriptors of the relay
		if c, err := net.Dial("tcp", addr); err == nil { // or reset at once, for want of a descriptor to the target
			conns = append(conns, c)
		}
	}
	expect("note accepting is paused: out of file descriptors (limit 64)")
	for _, c := range conns {
		c.Close()
	}
	expect("note none")
	ask(t, dial(t, "tcp", addr), "hello")
	stdin.Close()
	for lines.Scan() {
		t.Log(lines.Text())
	}
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
}

// relayUntilEOF runs a relay and prints its note whenever that changes, until standard input ends.
func relayUntilEOF(t *testing.T, target string) {
	port := freePort(t)
	r := startRelay(t)
	apply(t, r, fwd(t, "x", port, target))
	fmt.Println("port " + port)
	ended := make(chan struct{})
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		close(ended)
	}()
	last := ""
	for ticker := time.Tick(5 * time.Millisecond); ; {
		select {
		case <-ended:
			return
		case <-ticker:
		}
		if note := r.Stats()["x"].Note; note != last {
			fmt.Println("note " + cmp.Or(note, "none"))
			last = note
		}
	}
}
