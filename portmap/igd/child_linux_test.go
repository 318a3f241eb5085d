package igd

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/fairlead-net/fairlead/forward"
	"github.com/fairlead-net/fairlead/internal/netlab"
	"github.com/fairlead-net/fairlead/portmap"
)

// childEnv names the interfaces that this program, started anew in a namespace, serves; childIGD the version of the device.
const (
	childEnv = "FAIRLEAD_IGD_TEST_INTERFACES"
	childIGD = "FAIRLEAD_IGD_TEST_VERSION"

	childExternal = "11.22.33.44" // miniupnpc does not go on with one that is for documentation
)

func TestMain(m *testing.M) {
	if names := os.Getenv(childEnv); names != "" {
		os.Exit(child(strings.Fields(names)))
	}
	os.Exit(m.Run())
}

// child is a server with a fake desk, and does what it is told on its standard input, line by line, until that ends. Then the server
// ends, and it says what is left.
func child(names []string) int {
	desk := newDesk()
	desk.quiet, desk.external = true, netip.MustParseAddr(childExternal)
	spec := portmap.Spec{IGD: 1}
	if os.Getenv(childIGD) == "2" {
		spec.IGD = 2
	}
	s := New(Options{
		Desk: desk, Spec: spec, ID: "child", Version: "1", Log: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Places: func() []portmap.Place { return placesOf(names) },
		Link: func() Link {
			return Link{Up: 1e8, Down: 1e9, BytesOut: 1000, BytesIn: 2000, PacketsOut: 10, PacketsIn: 20}
		},
		Packets: func(portmap.Mapping) (uint64, bool) { return 7, true },
	})
	if ln, err := net.Listen("tcp", "127.0.0.1:0"); err == nil { // so that the runtime has the files that it keeps
		_ = ln.Close()
	}
	goroutines, files := runtime.NumGoroutine(), openFiles()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		words := strings.Fields(in.Text())
		switch words[0] {
		case "external":
			desk.setExternal(netip.MustParseAddr(words[1]))
		case "fill":
			var n int
			_, _ = fmt.Sscan(words[1], &n)
			fill(desk, n)
		case "list":
			for _, m := range desk.Of(netip.Addr{}) {
				fmt.Printf("lease %s %v:%d -> %v %q\n", m.Network, m.Public.Addr(), m.Public.Port(), m.Internal, m.Describe)
			}
		case "batches":
			desk.mu.Lock()
			fmt.Println("batches", desk.batches)
			desk.mu.Unlock()
		}
		fmt.Println("done", in.Text())
	}
	cancel()
	err := <-ended
	for deadline := time.Now().Add(5 * time.Second); runtime.NumGoroutine() > goroutines && time.Now().Before(deadline); {
		time.Sleep(time.Millisecond)
	}
	fmt.Printf("ended: %v, goroutines %+d, files %+d\n", err, runtime.NumGoroutine()-goroutines, openFiles()-files)
	return 0
}

func openFiles() int {
	list, _ := os.ReadDir("/proc/self/fd")
	return len(list)
}

// fill has the desk give n ports to other hosts of the LAN.
func fill(desk *fakeDesk, n int) {
	desk.mu.Lock()
	defer desk.mu.Unlock()
	for i := range n {
		host := netip.AddrFrom4([4]byte{192, 168, 1, byte(100 + i%100)})
		desk.one(portmap.Request{
			Protocol: portmap.UPnP, Key: portmap.Key{Network: forward.UDP, Internal: netip.AddrPortFrom(host, uint16(1000+i/100))}, Client: host,
			External: uint16(1000 + i), Exact: true,
		})
	}
}

func placesOf(names []string) (places []portmap.Place) {
	for _, name := range names {
		i, err := net.InterfaceByName(name)
		if err != nil {
			continue
		}
		p := portmap.Place{Interface: *i}
		addrs, _ := i.Addrs()
		for _, a := range addrs {
			if prefix, err := netip.ParsePrefix(a.String()); err == nil {
				p.Addrs = append(p.Addrs, prefix)
			}
		}
		if len(p.Addrs) > 0 {
			places = append(places, p)
		}
	}
	return places
}

// A running is a child, seen from its test.
type running struct {
	*netlab.Process
	t  testing.TB
	in io.WriteCloser
}

// startServer starts a child on a host.
func startServer(t testing.TB, on *netlab.Node, igd, interfaces string) *running {
	t.Helper()
	cmd := on.Command(context.Background(), os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"="+interfaces, childIGD+"="+igd)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	p, err := on.StartCommand(cmd)
	if err != nil {
		t.Fatal(err)
	}
	r := &running{p, t, in}
	t.Cleanup(func() {
		r.end()
		if t.Failed() {
			t.Logf("the server wrote:\n%s", p.Output())
		}
	})
	p.WaitOutput(t, "UPnP is served")
	return r
}

// tell has the child do something, and waits until it is done.
func (r *running) tell(line string) {
	r.t.Helper()
	if _, err := io.WriteString(r.in, line+"\n"); err != nil {
		r.t.Fatal(err)
	}
	r.WaitOutput(r.t, "(?m)^done "+line+"$")
}

// end ends the server, which must leave nothing behind.
func (r *running) end() {
	_ = r.in.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := r.Wait(ctx); err != nil {
		r.t.Errorf("the server: %v", err)
		r.Kill()
	}
	if !strings.Contains(r.Output(), "ended: context canceled, goroutines +0, files +0") {
		r.t.Errorf("the server left something behind: %s", r.Output()[max(0, len(r.Output())-500):])
	}
}
