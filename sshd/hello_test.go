package sshd

import (
	"fmt"
	"net"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"
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
