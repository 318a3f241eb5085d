package e2e

import (
	"bufio"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/fairlead-net/fairlead/internal/netlab"
)

// TestFastOpen has curl and nginx exchange cookies with the relay (RFC 7413), after which data goes with the SYN on both sides;
// and a target that speaks first is reached although nothing goes with its SYN.
func TestFastOpen(t *testing.T) {
	lab := netlab.Gateway(t)
	const client, both, everyListener = 1, 3, 0x400
	lab.Client.Sysctl(t, "net.ipv4.tcp_fastopen", strconv.Itoa(client))
	lab.Host.Sysctl(t, "net.ipv4.tcp_fastopen", strconv.Itoa(both))
	lab.Server.Sysctl(t, "net.ipv4.tcp_fastopen", strconv.Itoa(both|everyListener))
	lab.Peer.Sysctl(t, "net.ipv4.tcp_fastopen", strconv.Itoa(both|everyListener))
	nginx(t, lab.Server, 8080)
	lab.Peer.Echo(t, "[::]:9000") // it greets
	const file = `
[forward.web]
listen = "80"
to = "192.168.1.10:8080"
carry = "relay"
fast_open = true
[forward.greets]
listen = "81"
to = "192.168.1.20:9000"
carry = "relay"
fast_open = true
`
	d := up(t, lab.Host, strings.ReplaceAll(file, "fast_open = true", ""))
	d.expect("web relay up", "greets relay up")
	get := func() {
		t.Helper()
		if got := lab.Client.Run(t, "curl", "-sS", "-m", "5", "--tcp-fastopen", "http://203.0.113.1/"); got != "hello from server\n" {
			t.Errorf("got %q", got)
		}
	}
	get()
	get()
	if n := counter(t, lab.Host, "TcpExtTCPFastOpenPassive"); n != 0 {
		t.Errorf("%d connections came with data in their SYN before anybody wished for that", n)
	}
	d.write(file)
	d.run("apply") // the listening sockets stay
	for range 3 {
		get()
	}
	for _, c := range []struct {
		node *netlab.Node
		name string
	}{{lab.Host, "TcpExtTCPFastOpenPassive"}, {lab.Host, "TcpExtTCPFastOpenActive"}, {lab.Server, "TcpExtTCPFastOpenPassive"}} {
		if n := counter(t, c.node, c.name); n == 0 {
			t.Errorf("%s on %s is 0", c.name, c.node)
		}
	}
	for range 3 {
		greeted(t, lab.Client, "203.0.113.1:81")
	}
}

// greeted connects and waits to be spoken to.
func greeted(t *testing.T, by *netlab.Node, to string) {
	t.Helper()
	conn, err := by.Dial(t.Context(), "tcp", to)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
	if line, err := bufio.NewReader(conn).ReadString('\n'); err != nil {
		t.Errorf("the target that speaks first said %q, %v", line, err)
	}
}

// counter is one of the kernel's counters (nstat(8)) of a host.
func counter(t *testing.T, n *netlab.Node, name string) int {
	t.Helper()
	for line := range strings.Lines(n.Run(t, "nstat", "-asz", name)) {
		if words := strings.Fields(line); len(words) > 1 && words[0] == name {
			v, err := strconv.Atoi(words[1])
			if err != nil {
				t.Fatal(err)
			}
			return v
		}
	}
	t.Fatalf("no counter %s", name)
	return 0
}
