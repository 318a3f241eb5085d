package netlab

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// stopTime is how long a process has to end by itself after SIGTERM.
const stopTime = 5 * time.Second

// A Process is a program that runs on a host in the background.
type Process struct {
	cmd  *exec.Cmd
	name string
	out  output
	done chan struct{} // closed when the process has ended and all it wrote is in out
	err  error         // how it ended; to be read after done
}

// Start runs a program in the background until the test's cleanup, which stops it, or until it ends. When the test has failed
// by then, what it wrote is logged. Should this process die first, the program is sent SIGTERM by the kernel.
func (n *Node) Start(tb TB, name string, args ...string) *Process {
	tb.Helper()
	p, err := n.StartCommand(n.Command(context.Background(), name, args...))
	if err != nil {
		tb.Fatalf("on %s: start %s: %v", n.name, name, err)
	}
	tb.Cleanup(func() {
		_ = p.Stop()
		if tb.Failed() {
			tb.Logf("%s %s, on %s, ended (%v) and had written:\n%s", name, strings.Join(args, " "), n.name, p.err, p.Output())
		}
	})
	return p
}

// StartCommand starts what Command made, after the caller's own touches to it (environment, directory, standard input),
// and leaves stopping it to the caller.
func (n *Node) StartCommand(cmd *exec.Cmd) (*Process, error) {
	p := &Process{cmd: cmd, name: cmd.Args[min(3, len(cmd.Args)-1)], done: make(chan struct{})}
	p.out.changed = make(chan struct{})
	if cmd.Stdout == nil {
		cmd.Stdout = &p.out
	}
	if cmd.Stderr == nil {
		cmd.Stderr = &p.out
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	started := make(chan error)
	// On a goroutine of its own, which keeps its thread: the kernel sends the death signal when the starting *thread* ends. The caller's
	// may be one that Do has entered, and one that is free may be taken by onThread, with which it ends.
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			p.err = cmd.Wait()
			close(p.done)
		}
	}()
	return p, <-started
}

// Pid is the process id of the program itself.
func (p *Process) Pid() int { return p.cmd.Process.Pid }

// Signal sends the program a signal. A program that has ended is not an error.
func (p *Process) Signal(sig os.Signal) { _ = p.cmd.Process.Signal(sig) }

// Done is closed when the program has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Output is what the program wrote up to now to its standard output and error.
func (p *Process) Output() string { return p.out.String() }

// Stop asks the program to end, and after five seconds kills it and the rest of its process group. It returns when the program
// has ended, with how.
func (p *Process) Stop() error {
	p.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(stopTime):
		_ = syscall.Kill(-p.Pid(), syscall.SIGKILL)
		<-p.done
	}
	return p.err
}

// Kill ends the program without a chance to clean up, and returns when it has ended.
func (p *Process) Kill() {
	p.Signal(syscall.SIGKILL)
	<-p.done
}

// Wait returns how the program ended, or ctx's error when that comes first.
func (p *Process) Wait(ctx context.Context) error {
	select {
	case <-p.done:
		return p.err
	case <-ctx.Done():
		return fmt.Errorf("%s still runs: %w", p.name, ctx.Err())
	}
}

// WaitOutput waits until something that the program wrote matches the regular expression, and returns the match.
func (p *Process) WaitOutput(tb TB, pattern string) string {
	tb.Helper()
	re, err := regexp.Compile(pattern)
	if err != nil {
		tb.Fatalf("wait for output of %s: %v", p.name, err)
	}
	timeout := time.After(commandTime)
	for ended := false; ; {
		text, changed := p.out.state()
		if m := re.FindString(text); m != "" {
			return m
		}
		if ended {
			tb.Fatalf("%s ended (%v) without writing %q:\n%s", p.name, p.err, pattern, text)
		}
		select {
		case <-changed:
		case <-p.done:
			ended = true // look once more at what it wrote last
		case <-timeout:
			tb.Fatalf("%s did not write %q in %v:\n%s", p.name, pattern, commandTime, text)
		}
	}
}

// output keeps what a process writes and tells who waits for more.
type output struct {
	mu      sync.Mutex
	buf     bytes.Buffer
	changed chan struct{} // closed and replaced at every write
}

func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	close(o.changed)
	o.changed = make(chan struct{})
	return o.buf.Write(b)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

func (o *output) state() (string, <-chan struct{}) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String(), o.changed
}

// WaitListen waits until a socket of the host listens on the TCP port, or is bound to the UDP port, on whichever address.
func (n *Node) WaitListen(tb TB, network string, port int) {
	tb.Helper()
	deadline := time.Now().Add(commandTime)
	for !n.Listening(network, port) {
		if time.Now().After(deadline) {
			tb.Fatalf("on %s: nothing listens on %s/%d after %v", n.name, network, port, commandTime)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

// Listening reports whether a socket of the host listens on the TCP port, or is bound to the UDP port.
func (n *Node) Listening(network string, port int) bool {
	found := false
	_ = n.Do(func() error {
		for _, family := range []string{"", "6"} {
			table, err := os.ReadFile("/proc/thread-self/net/" + network + family)
			found = found || err == nil && listens(string(table), network == "tcp", port)
		}
		return nil
	})
	return found
}

// listens looks for the port in a table of /proc/net; see proc_pid_net(5).
func listens(table string, onlyListen bool, port int) bool {
	const stateListen = "0A"
	for line := range strings.Lines(table) {
		f := strings.Fields(line)
		if len(f) < 4 || onlyListen && f[3] != stateListen {
			continue
		}
		if _, hex, ok := strings.Cut(f[1], ":"); ok {
			if got, err := strconv.ParseUint(hex, 16, 16); err == nil && int(got) == port {
				return true
			}
		}
	}
	return false
}
