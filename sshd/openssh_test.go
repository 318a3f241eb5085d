package sshd

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/fairlead-net/fairlead/internal/sshchan"
)

// sshArgs is how OpenSSH's client logs in to s, with nothing of the machine's own settings.
func sshArgs(s *testServer, key testKey, args ...string) []string {
	return append([]string{
		"-F", "none", "-i", key.file, "-o", "IdentitiesOnly=yes", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null",
		"-o", "ExitOnForwardFailure=yes", "-o", "BatchMode=yes", "-p", s.port,
	}, append(args, "me@127.0.0.1")...)
}

// answers waits until what listens at addr leads to the echo with this name.
func answers(t *testing.T, network, addr, name string) {
	t.Helper()
	var err error
	for end := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		if err = tryCall(network, addr, name); err == nil {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%s: %v", addr, err)
		}
	}
}

func TestOpenSSH(t *testing.T) {
	ssh := program(t, "ssh")
	key := newTestKey(t)
	s := startServer(t, impatient, key.line("", "openssh"))
	target := echo(t, "tcp", "127.0.0.1:0", "target").Addr().String()
	web := website(t)
	dir := t.TempDir()
	far, near := filepath.Join(dir, "far"), filepath.Join(dir, "near")
	echo(t, "unix", far, "socket")

	t.Run("-L", func(t *testing.T) {
		port := freePort(t)
		start(t, exec.Command(ssh, sshArgs(s, key, "-N", "-L", port+":"+target)...))
		answers(t, "tcp", "127.0.0.1:"+port, "target")
		time.Sleep(5 * keepalive)
		call(t, "tcp", "127.0.0.1:"+port, "target")
	})
	t.Run("-L unix", func(t *testing.T) {
		start(t, exec.Command(ssh, sshArgs(s, key, "-N", "-L", near+":"+far)...))
		answers(t, "unix", near, "socket")
	})
	t.Run("-D", func(t *testing.T) {
		curl := program(t, "curl")
		port := freePort(t)
		start(t, exec.Command(ssh, sshArgs(s, key, "-N", "-D", port)...))
		eventually(t, "an answer through -D", func() bool {
			out, _ := exec.Command(curl, "-s", "--socks5-hostname", "127.0.0.1:"+port, "http://"+web+"/").CombinedOutput()
			return string(out) == "web"
		})
	})
	t.Run("-W", func(t *testing.T) {
		cmd := exec.Command(ssh, sshArgs(s, key, "-W", target)...)
		cmd.Stdin = strings.NewReader("hello\n")
		out, err := cmd.Output()
		if err != nil || string(out) != "target: hello\ntarget: end\n" {
			t.Errorf("ssh -W: %q, %v", out, err)
		}
	})
	t.Run("-R", func(t *testing.T) {
		port := freePort(t)
		stop, _ := start(t, exec.Command(ssh, sshArgs(s, key, "-N", "-R", port+":"+target)...))
		answers(t, "tcp", "127.0.0.1:"+port, "target")
		call(t, "tcp", "127.0.0.1:"+port, "target")
		stop()
		eventually(t, "the listener to go", func() bool { return len(s.forwards.places()) == 0 })
	})
	t.Run("-R port 0", func(t *testing.T) {
		_, out := start(t, exec.Command(ssh, sshArgs(s, key, "-N", "-R", "0:"+target)...))
		var port string
		eventually(t, "the port that was picked", func() bool {
			m := regexp.MustCompile(`Allocated port (\d+) for remote forward`).FindStringSubmatch(out.String())
			if m != nil {
				port = m[1]
			}
			return m != nil
		})
		call(t, "tcp", "127.0.0.1:"+port, "target")
	})
	t.Run("-R unix", func(t *testing.T) {
		remote := filepath.Join(dir, "remote")
		start(t, exec.Command(ssh, sshArgs(s, key, "-N", "-R", remote+":"+far)...))
		answers(t, "unix", remote, "socket")
	})
	t.Run("-R dynamic", func(t *testing.T) {
		curl := program(t, "curl")
		port := freePort(t)
		start(t, exec.Command(ssh, sshArgs(s, key, "-N", "-R", port)...))
		eventually(t, "an answer through -R", func() bool {
			out, _ := exec.Command(curl, "-s", "--socks5-hostname", "127.0.0.1:"+port, "http://"+web+"/").CombinedOutput()
			return string(out) == "web"
		})
	})
}

// TestOpenSSHHasNoShell wants the message and the status, however a command or a shell is asked for.
func TestOpenSSHHasNoShell(t *testing.T) {
	ssh := program(t, "ssh")
	key := newTestKey(t)
	s := startServer(t, nil, key.line("", "openssh"))
	for _, args := range [][]string{{"-T"}, {"-tt"}, {"-T", "--", "uptime"}} {
		line := sshArgs(s, key)
		if args[len(args)-1] == "uptime" {
			line = append(line, "uptime")
		}
		line = append([]string{args[0]}, line...)
		cmd := exec.Command(ssh, line...)
		out, err := cmd.CombinedOutput()
		if cmd.ProcessState.ExitCode() != 1 || !strings.Contains(string(out), "forwards ports and has no shell") {
			t.Errorf("ssh %v: %q, %v", args, out, err)
		}
	}
}

// TestOpenSSHJumps goes through the server to a real sshd.
func TestOpenSSHJumps(t *testing.T) {
	ssh, sshd := program(t, "ssh"), "/usr/sbin/sshd"
	if _, err := os.Stat(sshd); err != nil {
		program(t, "sshd")
	}
	key, host := newTestKey(t), newTestKey(t)
	s := startServer(t, nil, key.line("", "jumper"))
	dir, port := t.TempDir(), freePort(t)
	authorized := filepath.Join(dir, "authorized_keys")
	if err := os.WriteFile(authorized, []byte(key.line("", "")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	user := os.Getenv("USER")
	if out, err := exec.Command("id", "-un").Output(); err == nil {
		user = strings.TrimSpace(string(out))
	}
	if err := os.MkdirAll("/run/sshd", 0o755); err != nil && os.Geteuid() == 0 {
		t.Fatal(err)
	}
	start(t, exec.Command(sshd, "-D", "-e", "-f", "/dev/null", "-p", port, "-h", host.file,
		"-o", "ListenAddress=127.0.0.1", "-o", "AuthorizedKeysFile="+authorized, "-o", "StrictModes=no", "-o", "PidFile=none",
		"-o", "PermitRootLogin=yes", "-o", "UsePAM=no"))
	config := filepath.Join(dir, "config")
	text := fmt.Sprintf(`Host *
IdentityFile %s
IdentitiesOnly yes
StrictHostKeyChecking no
UserKnownHostsFile /dev/null
BatchMode yes
`, key.file)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	var out []byte
	for end := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
		var err error
		out, err = exec.Command(ssh, "-F", config, "-J", "me@127.0.0.1:"+s.port, "-p", port, user+"@127.0.0.1", "echo over there").CombinedOutput()
		if err == nil && strings.Contains(string(out), "over there\n") {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("ssh -J: %v: %s", err, out)
		}
	}
}

// TestOpenSSHRekeys sends more than the keys are good for, both ways.
func TestOpenSSHRekeys(t *testing.T) {
	ssh := program(t, "ssh")
	key := newTestKey(t)
	s := startServer(t, nil, key.line("", "openssh"))
	for _, cipher := range []string{"aes128-gcm@openssh.com", "chacha20-poly1305@openssh.com", "aes256-ctr"} {
		target := mirror(t)
		cmd := exec.Command(ssh, sshArgs(s, key, "-v", "-c", cipher, "-o", "RekeyLimit=1M", "-W", target)...)
		const size = 3 << 20
		cmd.Stdin = strings.NewReader(strings.Repeat("0123456789abcdef", size/16))
		var report strings.Builder
		cmd.Stderr = &report
		out, err := cmd.Output()
		if err != nil || len(out) != size {
			t.Errorf("%s: %d bytes of %d came back: %v", cipher, len(out), size, err)
		}
		if n := strings.Count(report.String(), "SSH2_MSG_KEXINIT received"); n < 2 {
			t.Errorf("%s: keys were exchanged %d times", cipher, n)
		}
	}
}

// mirror sends back what it gets.
func mirror(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				_ = sshchan.Copy(conn, conn)
			}()
		}
	}()
	return l.Addr().String()
}

func website(t *testing.T) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "web") }))
	t.Cleanup(s.Close)
	return strings.TrimPrefix(s.URL, "http://")
}

// TestOpenSSHIsTold looks at what people see who may not do what they ask for.
func TestOpenSSHIsTold(t *testing.T) {
	program(t, "ssh")
	key, limited := newTestKey(t), newTestKey(t)
	s := startServer(t, nil, key.line("", "free"), limited.line(`permitopen="elsewhere:1",permitlisten="1"`, "limited"))
	target := echo(t, "tcp", "127.0.0.1:0", "target").Addr().String()
	for _, test := range []struct {
		key  testKey
		args []string
		want string
	}{
		{key, []string{"-o", "PreferredAuthentications=password,keyboard-interactive", "-N"}, "Permission denied (publickey)"},
		{newTestKey(t), []string{"-N"}, "Permission denied (publickey)"},
		{limited, []string{"-W", target}, "administratively prohibited: the destination is not permitted by the key"},
		{key, []string{"-W", "127.0.0.1:" + freePort(t)}, "connect failed: "},
		{limited, []string{"-N", "-R", "0:" + target}, "remote port forwarding failed"},
	} {
		out, err := exec.Command("ssh", sshArgs(s, test.key, test.args...)...).CombinedOutput()
		if err == nil || !strings.Contains(string(out), test.want) {
			t.Errorf("ssh %v: %v, %s; want %q", test.args, err, out, test.want)
		}
	}
}
