package netlab

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"

	"golang.org/x/sys/unix"
)

// RequireEnv names the environment variable that, set to "require", makes New fail where it would otherwise skip: set it
// where namespace tests must run, so that none is skipped unseen.
const RequireEnv = "FAIRLEAD_NETNS"

// TB is what a lab needs of a test. *testing.T, *testing.B and *testing.F have it; a benchmark program brings its own. As with
// those, Fatalf and Skipf do not return, and are called from the goroutine that called into the lab.
type TB interface {
	Helper()
	Cleanup(func())
	Failed() bool
	Logf(format string, args ...any)
	Fatalf(format string, args ...any)
	Skipf(format string, args ...any)
}

// A Lab is a set of hosts. It is used from one goroutine at a time.
type Lab struct {
	tb     TB
	prefix string // of the names of its namespaces
	nodes  map[string]*Node
	wires  int // for the MAC addresses
	lines  int // for their names
}

// New makes an empty lab that is removed in tb's cleanup, with every process still running in it. Where namespaces cannot be
// made it skips the test, or fails it when the environment says FAIRLEAD_NETNS=require.
func New(tb TB) *Lab {
	tb.Helper()
	if why := unusable(); why != "" {
		if os.Getenv(RequireEnv) == "require" {
			tb.Fatalf("netlab: %s, and %s=require", why, RequireEnv)
		}
		tb.Skipf("netlab: %s", why)
	}
	sweep()
	l := &Lab{
		tb:     tb,
		prefix: fmt.Sprintf("%s%04x-", ownPrefix(), rand.N(0x10000)),
		nodes:  map[string]*Node{},
	}
	tb.Cleanup(l.remove)
	return l
}

// unusable says why this process cannot make namespaces, or "".
func unusable() string {
	if os.Geteuid() != 0 {
		return "network namespaces need root"
	}
	if _, err := exec.LookPath("nsenter"); err != nil {
		return "network namespaces are entered through nsenter, which is not installed"
	}
	var err error
	onThread(func() { err = unix.Unshare(unix.CLONE_NEWNET) })
	if err != nil {
		return "this process may not make network namespaces: " + err.Error()
	}
	return ""
}

func (l *Lab) remove() {
	for _, n := range l.nodes {
		killAll(n.Path())
	}
	for _, n := range l.nodes {
		n.close()
	}
}

// Node makes a host: a namespace with loopback up, that forwards nothing. Its name is unique in the lab.
func (l *Lab) Node(name string) *Node {
	l.tb.Helper()
	if l.nodes[name] != nil {
		l.tb.Fatalf("netlab: there are two nodes called %s", name)
	}
	n, err := newNode(l, name)
	if err != nil {
		l.tb.Fatalf("netlab: node %s: %v", name, err)
	}
	l.nodes[name] = n
	return n
}

// Gone removes a host before the lab ends, with what runs there.
func (l *Lab) Gone(n *Node) {
	if l.nodes[n.name] == n {
		delete(l.nodes, n.name)
		killAll(n.Path())
		n.close()
	}
}
