package sshd

import (
	"encoding/binary"
	"fmt"
	"net"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"
)

func helloOf(version string, in, out []string) []byte {
	payload := ssh.Marshal(kexInit{In: in, Out: out})
	padding := 8
	b := append([]byte(version), binary.BigEndian.AppendUint32(nil, uint32(1+len(payload)+padding))...)
	b = append(append(b, byte(padding)), payload...)
	return append(b, make([]byte, padding)...)
}

func TestHello(t *testing.T) {
	whole := helloOf("SSH-2.0-x\r\n", []string{"a", "b", "c"}, []string{"c", "b"})
	ciphers, _, done := parseHello(whole)
	if !done || !slices.Equal(ciphers, []string{"b", "c"}) {
		t.Errorf("%v %v", ciphers, done)
	}
	for i := range whole {
		if _, _, done := parseHello(whole[:i]); done {
			t.Fatalf("done after %d bytes of %d", i, len(whole))
		}
	}
	for _, text := range []string{"GET / HTTP/1.1\r\n", strings.Repeat("x", 300), "SSH-2.0-x\r\n\xff\xff\xff\xff\x00", "SSH-2.0-x\n\x00\x00\x00\x05\x04", "SSH-2.0-x\n\x00\x00\x00\x06\x04\x05aaaaaa"} {
		if ciphers, _, done := parseHello([]byte(text)); !done || ciphers != nil {
			t.Errorf("%q: %v %v", text, ciphers, done)
		}
	}
	const chacha, gcm = ssh.CipherChaCha20Poly1305, ssh.CipherAES256GCM
	if got := offer([]string{chacha, gcm}, true); slices.Contains(got, chacha) || !slices.Contains(got, gcm) {
		t.Errorf("who knows AES-GCM is offered %v", got)
	}
	for _, got := range [][]string{offer([]string{chacha}, true), offer(nil, true), offer([]string{chacha, gcm}, false)} {
		if !slices.Contains(got, chacha) || !slices.Contains(got, ssh.CipherAES256CTR) {
			t.Errorf("others are offered %v", got)
		}
	}
}

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
		if cipher == "" && fastGCM() {
			want += ssh.CipherAES128GCM
		}
		if err != nil || string(out) != "target: hello\ntarget: end\n" || !strings.Contains(report.String(), want) {
			t.Errorf("cipher %q: %q, %v, want %q", cipher, out, err, want)
		}
	}
}

func FuzzHello(f *testing.F) {
	f.Add(helloOf("SSH-2.0-x\r\n", []string{"a"}, []string{"a"}))
	f.Add([]byte("SSH-2.0-x\r\n\x00\x00\x00\x0c\x0a\x14"))
	f.Fuzz(func(t *testing.T, b []byte) {
		ciphers, _, done := parseHello(b)
		if !done && len(b) > maxVersion+maxPacket+10 {
			t.Error("it goes on without end")
		}
		if len(ciphers) > 0 && !done {
			t.Error("ciphers before the end")
		}
	})
}
