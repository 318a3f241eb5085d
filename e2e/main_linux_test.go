package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/fairlead-net/fairlead/internal/netlab"
)

// binary is the program under test, built once.
var binary string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "fairlead-e2e-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	if err := os.Chmod(dir, 0o755); err != nil { // an ordinary user runs it, too
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	binary = filepath.Join(dir, "fairlead")
	build := exec.Command("go", "build", "-o", binary, "../cmd/fairlead")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "go build: %v\n%s", err, out)
		os.Exit(1)
	}
	code := m.Run()
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

// A daemon is `fairlead up` on a host of a lab, with a file, socket and state of its own.
type daemon struct {
	t    testing.TB
	node *netlab.Node
	dir  string
	proc *netlab.Process
}

// up starts the daemon with the text as its file, and waits until it serves.
func up(t testing.TB, node *netlab.Node, text string) *daemon {
	t.Helper()
	d := &daemon{t: t, node: node, dir: t.TempDir()}
	d.write(text)
	d.start()
	return d
}

func (d *daemon) file() string { return filepath.Join(d.dir, "fairlead.toml") }

func (d *daemon) write(text string) {
	d.t.Helper()
	if err := os.WriteFile(d.file(), []byte(text), 0o644); err != nil {
		d.t.Fatal(err)
	}
}

func (d *daemon) args(args ...string) []string {
	return append(args, "--socket", filepath.Join(d.dir, "s"), "--state", filepath.Join(d.dir, "state"))
}

func (d *daemon) start() {
	d.t.Helper()
	d.proc = d.node.Start(d.t, binary, d.args("up", "-c", d.file(), "--log-level", "debug")...)
	d.proc.WaitOutput(d.t, "msg=ready")
}

// run runs a command against the daemon; it must succeed.
func (d *daemon) run(args ...string) string {
	d.t.Helper()
	return d.node.Run(d.t, binary, d.args(args...)...)
}

// try runs a command against the daemon, and returns what it wrote and whether it succeeded.
func (d *daemon) try(args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(d.t.Context(), 10*time.Second)
	defer cancel()
	out, err := d.node.Command(ctx, binary, d.args(args...)...).CombinedOutput()
	return string(out), err
}

// wait polls until ok, for at most 30 seconds.
func (d *daemon) wait(what string, ok func() bool) {
	d.t.Helper()
	waitFor(d.t, what, ok)
}

func waitFor(t testing.TB, what string, ok func() bool) {
	t.Helper()
	waitUpTo(t, 30*time.Second, what, ok)
}

// waitUpTo is waitFor for what may take its time.
func waitUpTo(t testing.TB, most time.Duration, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(most); ; time.Sleep(20 * time.Millisecond) {
		if ok() {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain until %s", what)
		}
	}
}

// needs skips a test where a program is not installed, or fails it where nothing may be skipped.
func needs(t testing.TB, programs ...string) {
	t.Helper()
	for _, name := range programs {
		if _, err := exec.LookPath(name); err != nil {
			if os.Getenv(netlab.RequireEnv) == "require" {
				t.Fatal(err)
			}
			t.Skip(err)
		}
	}
}

// A forwardStatus is one entry of `fairlead status --json`, spelled as DESIGN fixes it.
type forwardStatus struct {
	Name, Origin, Listen, At, Via, Carried, Why, State, Detail string
	To                                                         []string
	Connections                                                struct{ Open, Total, Refused uint64 }
	Bytes                                                      struct{ In, Out uint64 }
	Since                                                      time.Time
	Expires                                                    *time.Time
}

func (d *daemon) status() map[string]forwardStatus {
	d.t.Helper()
	var list struct{ Forwards []forwardStatus }
	if err := json.Unmarshal([]byte(d.run("status", "--json")), &list); err != nil {
		d.t.Fatal(err)
	}
	out := map[string]forwardStatus{}
	for _, f := range list.Forwards {
		out[f.Name] = f
	}
	return out
}

type sessionStatus struct {
	ID, Forward, Network, Client, Target, Carried string
	Bytes                                         struct{ In, Out uint64 }
}

func (d *daemon) sessions(name string) []sessionStatus {
	d.t.Helper()
	var list struct{ Sessions []sessionStatus }
	if err := json.Unmarshal([]byte(d.run("sessions", name, "--json")), &list); err != nil {
		d.t.Fatal(err)
	}
	return list.Sessions
}

// expect checks who carries each forward and in which state it is, given as "name carrier state".
func (d *daemon) expect(lines ...string) {
	d.t.Helper()
	all := d.status()
	for _, line := range lines {
		w := strings.Fields(line)
		if f := all[w[0]]; f.Carried != w[1] || f.State != w[2] {
			d.t.Errorf("%s is carried by %q and %q (%s; %s), expected %s and %s", w[0], f.Carried, f.State, f.Why, f.Detail, w[1], w[2])
		}
	}
}
