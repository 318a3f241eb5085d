package sshd

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"

	"github.com/fairlead-net/fairlead/forward"
)

// TestSlowHello has a client send its version byte by byte, and its list only when it has seen the server's.
func TestSlowHello(t *testing.T) {
	s := startServer(t, nil)
	conn := rawDial(t, s)
	for _, c := range "SSH-2.0-slow\r\n" {
		if _, err := fmt.Fprint(conn, string(c)); err != nil {
			t.Fatal(err)
		}
	}
	var got strings.Builder
	buffer := make([]byte, 4096)
	for !strings.Contains(got.String(), "hmac-sha2-512-etm@openssh.com") {
		n, err := conn.Read(buffer)
		if err != nil {
			t.Fatal(err)
		}
		got.Write(buffer[:n])
	}
	if strings.Count(got.String(), banner) != 1 || !strings.Contains(got.String(), ssh.CipherChaCha20Poly1305) {
		t.Errorf("%q", got.String())
	}
}

// TestCiphers has OpenSSH insist on each cipher, and on none.
func TestCiphers(t *testing.T) {
	program(t, "ssh")
	key := newTestKey(t)
	s := startServer(t, nil, key.line("", ""))
	target := echo(t, "tcp", "127.0.0.1:0", "target").Addr().(*net.TCPAddr).String()
	for _, cipher := range append(algorithms().Ciphers, "") {
		args := []string{"-v", "-W", target}
		if cipher != "" {
			args = append(args, "-c", cipher)
		}
		cmd := exec.Command("ssh", sshArgs(s, key, args...)...)
		cmd.Stdin = strings.NewReader("hello\n")
		var report strings.Builder
		cmd.Stderr = &report
		out, err := cmd.Output()
		want := "kex: server->client cipher: " + cipher
		if cipher == "" && fastGCM() && !s.o.plain {
			want += ssh.CipherAES128GCM
		}
		if err != nil || string(out) != "target: hello\ntarget: end\n" || !strings.Contains(report.String(), want) {
			t.Errorf("cipher %q: %q, %v, want %q", cipher, out, err, want)
		}
	}
}

// TestWhoServes has clients that sshwire can serve, and others.
func TestWhoServes(t *testing.T) {
	key := newTestKey(t)
	for cipher, wire := range map[string]bool{ssh.CipherAES128GCM: true, ssh.CipherAES256GCM: true, ssh.CipherChaCha20Poly1305: false} {
		s := startServer(t, nil, key.line("", ""))
		config := &ssh.ClientConfig{
			User: "x", Auth: []ssh.AuthMethod{ssh.PublicKeys(key.Signer)}, HostKeyCallback: ssh.InsecureIgnoreHostKey(),
			Config: ssh.Config{Ciphers: []string{cipher}},
		}
		c, err := ssh.Dial("tcp", s.addr, config)
		if err != nil {
			t.Fatal(err)
		}
		eventually(t, "the client", func() bool { return s.clientOf() != nil })
		_, got := s.clientOf().peer.(*wirePeer)
		if want := wire && runtime.GOOS == "linux" && fastGCM() && !s.o.plain; got != want {
			t.Errorf("%s: served by sshwire is %v, want %v", cipher, got, want)
		}
		c.Close()
	}
}

// TestTargets reaches targets in all the ways in which they are dialled.
func TestTargets(t *testing.T) {
	key := newTestKey(t)
	target := echo(t, "tcp", "127.0.0.1:0", "target").Addr().(*net.TCPAddr)
	path := filepath.Join(t.TempDir(), "socket")
	echo(t, "unix", path, "target")
	plain := func(o *Options) { o.Connect = nil }
	for name, test := range map[string]struct {
		change        func(*Options)
		network, addr string
	}{
		"an address":           {nil, "tcp", target.String()},
		"a name":               {nil, "tcp", fmt.Sprintf("localhost:%d", target.Port)},
		"an address, by Dial":  {plain, "tcp", target.String()},
		"a unix socket":        {nil, "unix", path},
		"what is not a socket": {func(o *Options) { plain(o); o.Dial = dialWrapped }, "tcp", target.String()},
		"a name with networks": {func(o *Options) {
			o.Policy.Permit = []forward.Rule{{Prefix: netip.MustParsePrefix("127.0.0.0/8")}}
		}, "tcp", fmt.Sprintf("localhost:%d", target.Port)},
	} {
		leaks := checkLeaks(t)
		s := startServer(t, test.change, key.line("", ""))
		c := s.dial(t, key)
		conn, err := c.Dial(test.network, test.addr)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if err := tryTalk(deadlineless{conn}, "target"); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		eventually(t, "the session to end", func() bool { return len(s.Sessions()) == 0 && s.clientOf().opened.Load() == 0 })
		if conn, err := c.Dial("tcp", "127.0.0.1:1"); err == nil || !strings.Contains(err.Error(), "refused") {
			t.Errorf("%s: where nobody listens: %v, %v", name, conn, err)
		}
		c.Close()
		s.stop()
		leaks()
	}
}

func dialWrapped(ctx context.Context, _ netip.AddrPort, network, addr string) (net.Conn, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	return struct{ *net.TCPConn }{conn.(*net.TCPConn)}, nil
}

// TestProposal compares what OpenSSH is told with what may be offered: an audit waits for the server to speak first, and sees
// what x/crypto says.
func TestProposal(t *testing.T) {
	program(t, "ssh")
	key := newTestKey(t)
	s := startServer(t, nil, key.line("", ""))
	report, _ := exec.Command("ssh", sshArgs(s, key, "-vv", "-W", "127.0.0.1:1")...).CombinedOutput()
	_, text, found := strings.Cut(string(report), "peer server KEXINIT proposal")
	if !found {
		t.Fatalf("%s", report)
	}
	all := algorithms()
	good := map[string][]string{
		"KEX algorithms": append(all.KeyExchanges, "curve25519-sha256@libssh.org", "kex-strict-s-v00@openssh.com"),
		"ciphers ctos":   all.Ciphers, "ciphers stoc": all.Ciphers, "MACs ctos": all.MACs, "MACs stoc": all.MACs,
		"host key algorithms": {ssh.KeyAlgoED25519}, "compression ctos": {"none"}, "compression stoc": {"none"},
	}
	seen := 0
	for line := range strings.Lines(text) {
		what, list, _ := strings.Cut(strings.TrimPrefix(strings.TrimSpace(line), "debug2: "), ": ")
		known, ok := good[what]
		if !ok {
			continue
		}
		seen++
		for name := range strings.SplitSeq(list, ",") {
			if !slices.Contains(known, name) {
				t.Errorf("%s has %s", what, name)
			}
		}
	}
	if seen < len(good) {
		t.Errorf("%d lists of %d:\n%s", seen, len(good), report)
	}
}
