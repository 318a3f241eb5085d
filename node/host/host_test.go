package host_test

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"

	"github.com/fairlead-net/fairlead/node"
	"github.com/fairlead-net/fairlead/node/host"
	"github.com/fairlead-net/fairlead/node/nodetest"
)

func TestHost(t *testing.T) {
	nodetest.Run(t, host.Caps(), func(*testing.T) node.Node { return host.New() })
}

func TestConnectionsAreUnwrapped(t *testing.T) {
	l, err := host.New().Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := host.New().Dial(t.Context(), "tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	a, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	for _, c := range []net.Conn{c, a} {
		if _, ok := c.(*net.TCPConn); !ok {
			t.Errorf("got a %T, want *net.TCPConn", c)
		}
	}
}

// TestBeside opens the wildcard of a port beside an exact address of it, and checks that the port is still busy for others.
func TestBeside(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("only Linux needs SO_REUSEPORT for this")
	}
	n := host.New()
	exact, err := n.Listen(t.Context(), "tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer exact.Close()
	_, port, _ := net.SplitHostPort(exact.Addr().String())
	if l, err := n.Listen(t.Context(), "tcp", ":"+port); err == nil {
		l.Close()
		t.Fatal("the wildcard opened without Beside")
	}
	wild, err := n.Bind(node.Binding{Beside: []syscall.Conn{exact.(syscall.Conn)}}).Listen(t.Context(), "tcp", ":"+port)
	if err != nil {
		t.Fatal(err)
	}
	defer wild.Close()
	for _, addr := range []string{"127.0.0.1:", "127.0.0.2:", ":"} {
		if l, err := n.Listen(t.Context(), "tcp", addr+port); err == nil {
			l.Close()
			t.Errorf("a second program got %s%s as well", addr, port)
		}
	}
}

func TestUnix(t *testing.T) {
	n, dir := host.New(), t.TempDir()
	path := filepath.Join(dir, "s")

	stale, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	stale.(*net.UnixListener).SetUnlinkOnClose(false)
	stale.Close()
	l, err := n.Listen(t.Context(), "unix", path)
	if err != nil {
		t.Fatalf("a stale socket was not replaced: %v", err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm()&0o111 != 0 {
		t.Errorf("the socket has mode %v, %v", info.Mode(), err)
	}
	if second, err := n.Listen(t.Context(), "unix", path); err == nil {
		second.Close()
		t.Error("a socket in use was taken over")
	}
	l.Close()
	if _, err := os.Stat(path); err == nil {
		t.Error("the socket file stayed after Close")
	}

	file := filepath.Join(dir, "precious")
	if err := os.WriteFile(file, []byte("data"), 0o600); err != nil {
		t.Fatal(err)
	}
	if l, err := n.Listen(context.Background(), "unix", file); err == nil {
		l.Close()
		t.Error("a regular file was taken for a socket")
	}
	if data, _ := os.ReadFile(file); string(data) != "data" {
		t.Error("a regular file was touched")
	}
}

func TestInterface(t *testing.T) {
	b := node.Binding{Interface: "no-such-if0"}
	if l, err := host.New().Bind(b).Listen(t.Context(), "tcp", "127.0.0.1:0"); err == nil {
		l.Close()
		t.Error("an unknown interface was accepted")
	}
}
