package e2e

import (
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/fairlead-net/fairlead/internal/netlab"
)

// TestSSHServer has OpenSSH's client forward ports in every direction through the SSH server, with nothing installed on its
// side, and keys that may do less.
func TestSSHServer(t *testing.T) {
	needs(t, "ssh", "ssh-keygen", "nc")
	lab := netlab.Gateway(t)
	nginx(t, lab.Server, 8080) // reached from the gateway
	nginx(t, lab.Client, 8081) // reached from the client
	dir := t.TempDir()
	anna, ben := keyPair(t, dir, "anna"), keyPair(t, dir, "ben")
	write(t, dir+"/authorized_keys", read(t, anna+".pub")+
		`restrict,port-forwarding,permitopen="192.168.1.10:8080",permitlisten="localhost:7100" `+read(t, ben+".pub"))
	d := up(t, lab.Host, fmt.Sprintf(`
[sshd]
listen = "2222"
authorized_keys = "%s/authorized_keys"
gateway_ports = "clientspecified"
keepalive = "1s"
`, dir))
	lab.Host.WaitListen(t, "tcp", 2222)
	for _, file := range []string{anna, ben} {
		if err := os.Chmod(file, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	options := func(key string) []string {
		return []string{"-F", "none", "-i", key, "-p", "2222", "-o", "StrictHostKeyChecking=accept-new", "-o", "UserKnownHostsFile=" + dir + "/known",
			"-o", "ExitOnForwardFailure=yes", "-o", "BatchMode=yes"}
	}
	stock := func(key string, args ...string) *netlab.Process {
		return lab.Client.Start(t, "ssh", append(append(options(key), "-N"), append(args, "x@203.0.113.1")...)...)
	}
	get := func(from *netlab.Node, args string) string {
		out, _ := from.Command(t.Context(), "curl", append([]string{"-sS", "-m", "5"}, strings.Fields(args)...)...).CombinedOutput()
		return string(out)
	}
	expect := func(from *netlab.Node, args, want string) {
		t.Helper()
		if got := get(from, args); got != want {
			t.Errorf("curl %s: got %q, want %q", args, got, want)
		}
	}
	const inside, outside = "hello from server\n", "hello from client\n"
	proc := stock(anna, "-L", "5000:192.168.1.10:8080", "-L", dir+"/in:192.168.1.10:8080", "-D", "1080",
		"-R", "7000:127.0.0.1:8081", "-R", "203.0.113.1:7001:127.0.0.1:8081", "-R", dir+"/out:127.0.0.1:8081", "-R", "7002")
	lab.Client.WaitListen(t, "tcp", 5000)
	d.wait("the forwards of the client are there", func() bool { return len(d.status()) == 4 })
	expect(lab.Client, "http://127.0.0.1:5000/", inside)
	expect(lab.Client, "--unix-socket "+dir+"/in http://x/", inside)
	expect(lab.Client, "--socks5 127.0.0.1:1080 http://192.168.1.10:8080/", inside)
	expect(lab.Host, "http://127.0.0.1:7000/", outside)
	expect(lab.Server, "http://203.0.113.1:7001/", outside)
	expect(lab.Host, "--unix-socket "+dir+"/out http://x/", outside)
	expect(lab.Host, "--socks5 127.0.0.1:7002 http://127.0.0.1:8081/", outside)
	if got := get(lab.Server, "http://203.0.113.1:7000/"); !strings.Contains(got, "connect") {
		t.Errorf("a port of loopback is open to others: %q", got)
	}
	for name, f := range d.status() {
		if f.Origin != "ssh:anna" || f.State != "up" || f.Connections.Total == 0 {
			t.Errorf("%s: %+v", name, f)
		}
	}
	if got := lab.Client.Feed(t, "GET / HTTP/1.0\r\n\r\n", "ssh", append(options(anna), "-W", "192.168.1.10:8080", "x@203.0.113.1")...); !strings.HasSuffix(got, inside) {
		t.Errorf("-W: got %q", got)
	}

	// The client dies without a word, and its next self wants the same ports.
	proc.Signal(syscall.SIGSTOP)
	second := stock(anna, "-R", "7000:127.0.0.1:8081")
	d.wait("the second client has the port", func() bool { return get(lab.Host, "-m 2 http://127.0.0.1:7000/") == outside })
	d.wait("what the dead one had is gone", func() bool { return len(d.status()) == 1 })
	proc.Kill()
	if err := second.Stop(); err != nil {
		t.Log(err) // ssh says so of every signal
	}
	d.wait("nothing is left", func() bool { return len(d.status()) == 0 })

	stock(ben, "-L", "5001:192.168.1.10:8080", "-L", "5002:192.168.1.20:8080", "-R", "localhost:7100:127.0.0.1:8081")
	lab.Client.WaitListen(t, "tcp", 5002)
	expect(lab.Client, "http://127.0.0.1:5001/", inside)
	if got := get(lab.Client, "http://127.0.0.1:5002/"); strings.Contains(got, "hello") {
		t.Errorf("a key reached what it may not: %q", got)
	}
	expect(lab.Host, "http://127.0.0.1:7100/", outside)
	refused := stock(ben, "-R", "7101:127.0.0.1:8081")
	refused.WaitOutput(t, "remote port forwarding failed")
	if got, err := lab.Client.Command(t.Context(), "ssh", append(options(anna), "x@203.0.113.1", "id")...).CombinedOutput(); err == nil || strings.Contains(string(got), "uid=") {
		t.Errorf("there is a shell: %q", got)
	}
	stranger := keyPair(t, dir, "stranger")
	if got, err := lab.Client.Command(t.Context(), "ssh", append(options(stranger), "-N", "x@203.0.113.1")...).CombinedOutput(); err == nil || !strings.Contains(string(got), "Permission denied") {
		t.Errorf("a stranger: %v, %q", err, got)
	}
}
