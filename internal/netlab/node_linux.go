package netlab

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// commandTime bounds what Run and the waiting functions take. It is there to end a test that hangs, not to measure.
const commandTime = 30 * time.Second

// A Node is one host of a lab. Its methods may be called from several goroutines, except those that fail the test.
type Node struct {
	lab  *Lab
	name string
	ns   netns.NsHandle
	nl   *netlink.Handle

	calls atomic.Uint32 // by UDP, each from a port of its own
}

func newNode(l *Lab, name string) (*Node, error) {
	n := &Node{lab: l, name: name}
	var err error
	onThread(func() {
		if n.ns, err = netns.NewNamed(l.prefix + name); err != nil {
			return
		}
		// Addresses are usable at once: no duplicate address detection, not even for the link-local ones.
		for _, key := range []string{"all", "default"} {
			for _, knob := range []string{"accept_dad", "accept_ra", "router_solicitations"} {
				err = os.WriteFile("/proc/sys/net/ipv6/conf/"+key+"/"+knob, []byte("0"), 0)
				if os.IsNotExist(err) {
					err = nil // a kernel without IPv6
				}
				if err != nil {
					return
				}
			}
		}
	})
	if err != nil {
		return nil, err
	}
	if n.nl, err = netlink.NewHandleAt(n.ns, unix.NETLINK_ROUTE, unix.NETLINK_NETFILTER); err != nil {
		return nil, err
	}
	lo, err := n.nl.LinkByName("lo")
	if err != nil {
		return nil, err
	}
	return n, n.nl.LinkSetUp(lo)
}

func (n *Node) close() {
	n.nl.Close()
	_ = n.ns.Close()
	_ = netns.DeleteNamed(filepath.Base(n.Path()))
}

// String is the name that the node was made with.
func (n *Node) String() string { return n.name }

// Path is the file that stands for the namespace, for "nsenter --net=PATH" by hand.
func (n *Node) Path() string { return filepath.Join(netnsDir, n.lab.prefix+n.name) }

// onThread runs fn on an operating system thread of its own that ends with it, whatever fn has done to the thread.
func onThread(fn func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // never unlocked
		fn()
	}()
	<-done
}

// Do runs fn in the namespace, on the calling goroutine. Sockets that fn opens stay in the namespace; goroutines that it
// starts, and look-ups of names, are not in it.
func (n *Node) Do(fn func() error) error {
	runtime.LockOSThread()
	home, err := netns.Get()
	if err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("this thread's namespace: %w", err)
	}
	defer func() {
		// A thread that cannot go home stays locked and so ends with its goroutine.
		if netns.Set(home) == nil {
			runtime.UnlockOSThread()
		}
		_ = home.Close()
	}()
	if err := netns.Set(n.ns); err != nil {
		return fmt.Errorf("enter namespace of %s: %w", n.name, err)
	}
	return fn()
}

// Command is a command that will run in the namespace. nsenter turns into it, so that its process id is the command's.
func (n *Node) Command(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "nsenter", append([]string{"--net=" + n.Path(), "--", name}, args...)...)
	cmd.WaitDelay = time.Second // for the pipes that a grandchild may hold open
	return cmd
}

// Run runs a command to its end and returns what it wrote to its standard output. It must succeed.
func (n *Node) Run(tb TB, name string, args ...string) string {
	tb.Helper()
	return n.Feed(tb, "", name, args...)
}

// Feed is Run with text for the command's standard input.
func (n *Node) Feed(tb TB, stdin, name string, args ...string) string {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), commandTime)
	defer cancel()
	cmd := n.Command(ctx, name, args...)
	var stdout, stderr strings.Builder
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &stdout, &stderr
	if err := cmd.Run(); err != nil {
		tb.Fatalf("on %s: %s %s: %v\n%s%s", n.name, name, strings.Join(args, " "), err, stdout.String(), stderr.String())
	}
	return stdout.String()
}

// Nft loads a ruleset, in the language of nft(8), on top of what is there.
func (n *Node) Nft(tb TB, ruleset string) {
	tb.Helper()
	n.Feed(tb, ruleset, "nft", "-f", "-")
}

// Sysctl sets a kernel setting such as "net.ipv4.ip_forward".
func (n *Node) Sysctl(tb TB, key, value string) {
	tb.Helper()
	file := "/proc/sys/" + strings.ReplaceAll(key, ".", "/")
	if err := n.Do(func() error { return os.WriteFile(file, []byte(value), 0) }); err != nil {
		tb.Fatalf("on %s: %s = %s: %v", n.name, key, value, err)
	}
}

// Forwarding makes the host a router, of both families.
func (n *Node) Forwarding(tb TB) {
	tb.Helper()
	n.Sysctl(tb, "net.ipv4.ip_forward", "1")
	n.Sysctl(tb, "net.ipv6.conf.all.forwarding", "1")
}

// Listen is net.Listen in the namespace. The address is numeric.
func (n *Node) Listen(network, addr string) (ln net.Listener, err error) {
	err = n.Do(func() (err error) { ln, err = net.Listen(network, addr); return err })
	return ln, err
}

// ListenPacket is net.ListenPacket in the namespace. The address is numeric.
func (n *Node) ListenPacket(network, addr string) (conn net.PacketConn, err error) {
	err = n.Do(func() (err error) { conn, err = net.ListenPacket(network, addr); return err })
	return conn, err
}

// Dial opens a connection from the namespace. The address is numeric.
func (n *Node) Dial(ctx context.Context, network, addr string) (net.Conn, error) {
	return n.DialFrom(ctx, network, "", addr)
}

// DialFrom is Dial from one of the host's own addresses; "" leaves the choice to the kernel.
func (n *Node) DialFrom(ctx context.Context, network, from, addr string) (net.Conn, error) {
	return n.dialFrom(ctx, network, from, 0, addr)
}

// dialFrom is DialFrom from a port; 0 leaves that to the kernel, too.
func (n *Node) dialFrom(ctx context.Context, network, from string, port int, addr string) (conn net.Conn, err error) {
	var d net.Dialer
	if from != "" || port != 0 {
		ip := net.ParseIP(from)
		if ip == nil && from != "" {
			return nil, fmt.Errorf("%q is not an address to dial from", from)
		}
		if d.LocalAddr = net.Addr(&net.TCPAddr{IP: ip, Port: port}); strings.HasPrefix(network, "udp") {
			d.LocalAddr = &net.UDPAddr{IP: ip, Port: port}
		}
	}
	err = n.Do(func() (err error) { conn, err = d.DialContext(ctx, network, addr); return err })
	return conn, err
}
