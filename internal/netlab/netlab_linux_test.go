package netlab

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vishvananda/netns"
)

// Every pair of hosts that should reach each other does, on both protocols and both families; the client outside has no
// way into the LAN of a Gateway.
func TestGateway(t *testing.T) {
	top := Gateway(t)
	for _, n := range []*Node{top.Router, top.Server, top.Peer, top.Client} {
		n.Echo(t, "[::]:9000")
	}
	reach := []struct {
		from *Node
		to   string
		want string
	}{
		{top.Client, RouterWAN4, "router"}, {top.Client, RouterWAN6, "router"},
		{top.Peer, Server4, "server"}, {top.Peer, Server6, "server"},
		{top.Router, Client4b, "client"}, {top.Router, Client6b, "client"},
		{top.Router, Peer4, "peer"}, {top.Router, Peer6, "peer"},
	}
	for _, r := range reach {
		for _, network := range []string{"tcp", "udp"} {
			checkReach(t, r.from, network, r.to, r.want)
		}
	}
	if reply, err := top.Client.Call(t.Context(), "tcp", Server4+":9000"); err == nil {
		t.Errorf("the client reached the LAN: %+v", reply)
	}
}

func TestOneArmed(t *testing.T) {
	top := OneArmed(t)
	top.Host.Echo(t, "[::]:9000")
	for _, network := range []string{"tcp", "udp"} {
		checkReach(t, top.Client, network, top.Front4, "host")
		checkReach(t, top.Client, network, top.Front6, "host")
	}
	if top.Host == top.Router {
		t.Error("the host is the router")
	}
}

func checkReach(t *testing.T, from *Node, network, to, want string) {
	t.Helper()
	addr := to + ":9000"
	if strings.Contains(to, ":") {
		addr = "[" + to + "]:9000"
	}
	reply, err := from.Call(t.Context(), network, addr)
	if err != nil {
		t.Errorf("%s to %s/%s: %v", from, network, addr, err)
	} else if reply.Node != want || reply.You != reply.Me {
		t.Errorf("%s to %s/%s: %+v, want an answer from %s that shows the caller's own address", from, network, addr, reply, want)
	}
}

// The lab's reason to be: address translation by hand, hairpin included, and the source as the server saw it.
func TestTranslation(t *testing.T) {
	top := Gateway(t)
	top.Server.Echo(t, "[::]:9000")
	top.Router.Nft(t, `
table inet test {
	chain pre { type nat hook prerouting priority dstnat
		ip daddr 203.0.113.1 tcp dport 80 dnat ip to 192.168.1.10:9000
		ip6 daddr 2001:db8:1::1 udp dport 80 dnat ip6 to [fd00:1::10]:9000
	}
	chain post { type nat hook postrouting priority srcnat
		ip saddr 192.168.1.0/24 ip daddr 192.168.1.0/24 ct status dnat masquerade
	}
}`)
	tests := []struct {
		from          *Node
		source        string
		network, addr string
		you           string
	}{
		{top.Client, "", "tcp", "203.0.113.1:80", Client4},
		{top.Client, Client4b, "tcp", "203.0.113.1:80", Client4b},
		{top.Client, Client6b, "udp", "[2001:db8:1::1]:80", Client6b},
		{top.Peer, "", "tcp", "203.0.113.1:80", RouterLAN4},
	}
	for _, tt := range tests {
		reply, err := tt.from.CallFrom(t.Context(), tt.network, tt.source, tt.addr)
		if err != nil {
			t.Errorf("%s to %s/%s: %v", tt.from, tt.network, tt.addr, err)
		} else if reply.Node != "server" || reply.You.Addr().String() != tt.you {
			t.Errorf("%s to %s/%s: %+v, want server to see %s", tt.from, tt.network, tt.addr, reply, tt.you)
		}
	}
}

func TestProcess(t *testing.T) {
	n := New(t).Node("one")
	p := n.Start(t, "sh", "-c", "trap 'echo bye; exit 3' TERM; echo ready; while :; do sleep 0.05; done")
	if got := p.WaitOutput(t, `rea\w+`); got != "ready" {
		t.Errorf("matched %q", got)
	}
	if err := p.Stop(); err == nil || !strings.Contains(err.Error(), "exit status 3") {
		t.Errorf("ended with %v", err)
	}
	if p.Output() != "ready\nbye\n" {
		t.Errorf("wrote %q", p.Output())
	}

	n.Start(t, "socat", "TCP-LISTEN:7000,fork,reuseaddr", "PIPE")
	n.WaitListen(t, "tcp", 7000)
	if n.Listening("udp", 7000) || n.Listening("tcp", 7001) {
		t.Error("something listens that was not started")
	}
	if got := n.Feed(t, "echo\n", "socat", "-t1", "-", "TCP:127.0.0.1:7000"); got != "echo\n" {
		t.Errorf("got back %q", got)
	}
	n.Web(t, "127.0.0.1:8000")
	if got := n.Run(t, "curl", "-sS", "http://127.0.0.1:8000/"); !strings.HasPrefix(got, "hello from one, you are 127.0.0.1:") {
		t.Errorf("the web server said %q", got)
	}
}

// A lab leaves nothing: no name, no process, also none that it never heard of.
func TestRemoval(t *testing.T) {
	var path string
	t.Run("lab", func(t *testing.T) {
		n := New(t).Node("one")
		path = n.Path()
		n.Run(t, "sh", "-c", "setsid sleep 1000 >/dev/null 2>&1 </dev/null &")
	})
	if t.Failed() || path == "" {
		t.SkipNow() // the reason is above
	}
	if _, err := os.Lstat(path); !os.IsNotExist(err) {
		t.Errorf("%s is still there: %v", path, err)
	}
}

func TestSweep(t *testing.T) {
	live := New(t).Node("one")
	dead := fmt.Sprintf("%s%d-%s-0000-one", namePrefix, os.Getpid(), "1") // this process's id, an earlier start
	var err error
	onThread(func() { _, err = netns.NewNamed(dead) })
	if err != nil {
		t.Fatal(err)
	}
	sweep()
	if _, err := os.Lstat(filepath.Join(netnsDir, dead)); !os.IsNotExist(err) {
		t.Errorf("what a dead process left is still there: %v", err)
	}
	if _, err := os.Lstat(live.Path()); err != nil {
		t.Errorf("a living process's namespace is gone: %v", err)
	}
}

func TestStale(t *testing.T) {
	tests := map[string]bool{
		"t1":                      false,
		"flab":                    false,
		"flab-1":                  false,
		"flab-999999999-1-0-gone": true,
		ownPrefix() + "00ff-node": false,
	}
	for name, want := range tests {
		if got := stale(name); got != want {
			t.Errorf("stale(%q) = %v", name, got)
		}
	}
}

func TestDialNeedsAddress(t *testing.T) {
	n := New(t).Node("one")
	if _, err := n.DialFrom(context.Background(), "tcp", "nowhere", "127.0.0.1:1"); err == nil {
		t.Error("dialled from nowhere")
	}
}
