package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/fairlead-net/fairlead/internal/netlab"
)

// keyPair makes a key, and returns the file of its private half; ".pub" behind it is the other.
func keyPair(t *testing.T, dir, name string) string {
	t.Helper()
	file := filepath.Join(dir, name)
	if out, err := exec.Command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", file).CombinedOutput(); err != nil {
		t.Fatalf("ssh-keygen: %v\n%s", err, out)
	}
	return file
}

// An opensshd is a real sshd on a host of a lab.
type opensshd struct {
	node *netlab.Node
	conf string
	proc *netlab.Process

	port       int
	key        string // to log in with, as root
	knownHosts string
}

// sshd starts OpenSSH's server on a host, at every address. addrs are what clients will call it.
func sshd(t *testing.T, n *netlab.Node, port int, addrs ...string) *opensshd {
	t.Helper()
	needs(t, "sshd", "ssh-keygen")
	if err := os.MkdirAll("/run/sshd", 0o755); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	s := &opensshd{node: n, conf: filepath.Join(dir, "sshd_config"), port: port}
	host := keyPair(t, dir, "host")
	s.key = keyPair(t, dir, "user")
	write(t, s.conf, fmt.Sprintf(`Port %d
HostKey %s
AuthorizedKeysFile %s.pub
PidFile none
UsePAM no
StrictModes no
PermitRootLogin yes
GatewayPorts clientspecified
MaxStartups 100
`, port, host, s.key))
	s.knownHosts = filepath.Join(dir, "known_hosts")
	var lines strings.Builder
	for _, addr := range addrs {
		fmt.Fprintf(&lines, "[%s]:%d %s", addr, port, read(t, host+".pub"))
	}
	write(t, s.knownHosts, lines.String())
	s.start(t)
	return s
}

func (s *opensshd) start(t *testing.T) {
	t.Helper()
	s.proc = s.node.Start(t, "/usr/sbin/sshd", "-D", "-e", "-f", s.conf)
	s.node.WaitListen(t, "tcp", s.port)
}

// kill ends the server, and the processes that serve its clients: by themselves, they live on.
func (s *opensshd) kill(t *testing.T) {
	t.Helper()
	pids := children(t, s.proc.Pid())
	s.proc.Kill()
	for _, pid := range pids {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
}

// children lists the processes below one, however deep.
func children(t *testing.T, parent int) []int {
	t.Helper()
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		t.Fatal(err)
	}
	below := map[int][]int{}
	for _, file := range stats {
		text, _ := os.ReadFile(file) // the process may have ended
		_, rest, _ := strings.Cut(string(text), ") ")
		var state string
		var ppid int
		if _, err := fmt.Sscan(rest, &state, &ppid); err != nil {
			continue
		}
		pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(file)))
		below[ppid] = append(below[ppid], pid)
	}
	var all []int
	for next := below[parent]; len(next) > 0; next = next[1:] {
		all = append(all, next[0])
		next = append(next, below[next[0]]...)
	}
	return all
}

// TestSSHNode leads through a real sshd in every direction, and lets that die.
func TestSSHNode(t *testing.T) {
	lab := netlab.Gateway(t)
	s := sshd(t, lab.Server, 2022, netlab.Server4)
	other := sshd(t, lab.Peer, 2022, netlab.Peer4)
	nginx(t, lab.Peer, 8080)   // reached from the server
	nginx(t, lab.Client, 8081) // reached from the gateway
	dir := t.TempDir()
	lab.Server.Start(t, "socat", "UNIX-LISTEN:"+dir+"/sock,fork", "EXEC:cat")
	d := up(t, lab.Host, fmt.Sprintf(`
[node.bastion]
ssh = "root@192.168.1.10:2022"
identity = "%[1]s"
known_hosts = "%[2]s"
config = "none"
agent = "none"
keepalive = "1s"
[node.other]
ssh = "root@192.168.1.20:2022"
jump = "bastion"
identity = "%[4]s"
known_hosts = "%[5]s"
config = "none"
agent = "none"
connections = 2
[forward.between]
at = "bastion"
listen = "6001"
to = "127.0.0.1:8080"
via = "other"
[forward.local]
listen = "5000"
to = "192.168.1.20:8080"
via = "bastion"
[forward.local-unix]
listen = "5001"
to = "unix:%[3]s/sock"
via = "bastion"
[forward.remote]
at = "bastion"
listen = "6000"
to = "203.0.113.10:8081"
[forward.remote-unix]
at = "bastion"
listen = "unix:%[3]s/remote"
to = "203.0.113.10:8081"
[forward.dynamic]
listen = "127.0.0.1:1080"
to = "proxy"
via = "bastion"
[forward.remote-dynamic]
at = "bastion"
listen = "127.0.0.1:1081"
to = "socks"
`, s.key, s.knownHosts, dir, other.key, other.knownHosts))
	all := []string{"between relay up", "local relay up", "local-unix relay up", "remote relay up", "remote-unix relay up", "dynamic relay up", "remote-dynamic relay up"}
	works := func() {
		t.Helper()
		d.wait("everything is up", func() bool {
			for _, f := range d.status() {
				if f.State != "up" {
					return false
				}
			}
			return true
		})
		d.expect(all...)
		for _, c := range []struct {
			from *netlab.Node
			want string
			args string
		}{
			{lab.Client, "hello from peer\n", "curl -sS -m 5 http://203.0.113.1:5000/"},
			{lab.Server, "hello from client\n", "curl -sS -m 5 http://127.0.0.1:6000/"},
			{lab.Server, "hello from peer\n", "curl -sS -m 5 http://127.0.0.1:6001/"},
			{lab.Peer, "hello from client\n", "curl -sS -m 5 http://192.168.1.10:6000/"},
			{lab.Server, "hello from client\n", "curl -sS -m 5 --unix-socket " + dir + "/remote http://x/"},
			{lab.Host, "hello from peer\n", "curl -sS -m 5 --socks5-hostname 127.0.0.1:1080 http://192.168.1.20:8080/"},
			{lab.Host, "hello from peer\n", "curl -sS -m 5 -x http://127.0.0.1:1080 http://192.168.1.20:8080/"},
			{lab.Server, "hello from client\n", "curl -sS -m 5 --socks5 127.0.0.1:1081 http://203.0.113.10:8081/"},
		} {
			args := strings.Fields(c.args)
			if got := c.from.Run(t, args[0], args[1:]...); got != c.want {
				t.Errorf("%s: got %q, want %q", c.args, got, c.want)
			}
		}
		// OpenSSH through the proxy of a forward, as people reach a host behind one.
		for _, kind := range []string{"nc -X 5 -x 127.0.0.1:1080 %h %p", "nc -X connect -x 127.0.0.1:1080 %h %p", "connect-proxy -S 127.0.0.1:1080 %h %p"} {
			got := lab.Host.Run(t, "ssh", "-F", "none", "-i", other.key, "-o", "UserKnownHostsFile="+other.knownHosts, "-o", "BatchMode=yes",
				"-o", "ProxyCommand="+kind, "-p", "2022", "root@192.168.1.20", "echo through")
			if got != "through\n" {
				t.Errorf("ssh by %s: got %q", kind, got)
			}
		}
		if got := lab.Client.Feed(t, "ping", "socat", "-t2", "-", "TCP4:203.0.113.1:5001"); got != "ping" {
			t.Errorf("by the unix socket: got %q", got)
		}
	}
	works()
	before := d.holds()

	s.kill(t)
	d.wait("the forwards wait", func() bool {
		f := d.status()
		return f["local"].State == "waiting" && f["remote"].State == "waiting"
	})
	if f := d.status()["local"]; !strings.Contains(f.Detail, "bastion") {
		t.Errorf("status does not say why: %q", f.Detail)
	}
	// A client that comes meanwhile is served once the node is back.
	late := make(chan string, 1)
	go func() {
		out, _ := lab.Client.Command(t.Context(), "curl", "-sS", "-m", "20", "http://203.0.113.1:5000/").CombinedOutput()
		late <- string(out)
	}()
	_ = os.Remove(dir + "/remote")
	s.start(t)
	if got := <-late; got != "hello from peer\n" {
		t.Errorf("who came while the node was away got %q", got)
	}
	works()
	d.letsGo(before)
}
