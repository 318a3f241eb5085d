//go:build unix

package sshd

import (
	"os/exec"
	"syscall"
	"testing"
)

// TestFrozenPredecessor freezes OpenSSH's client, which keeps its connection, and starts another for the same port.
func TestFrozenPredecessor(t *testing.T) {
	program(t, "ssh")
	key := newTestKey(t)
	s := startServer(t, nil, key.line("", "laptop"))
	old := echo(t, "tcp", "127.0.0.1:0", "old").Addr().String()
	fresh := echo(t, "tcp", "127.0.0.1:0", "fresh").Addr().String()
	port := freePort(t)
	first := exec.Command("ssh", sshArgs(s, key, "-N", "-R", port+":"+old)...)
	start(t, first)
	answers(t, "tcp", "127.0.0.1:"+port, "old")
	if err := first.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	start(t, exec.Command("ssh", sshArgs(s, key, "-N", "-R", port+":"+fresh)...))
	eventually(t, "the second to have the port", func() bool {
		s.forwards.mu.Lock()
		defer s.forwards.mu.Unlock()
		for _, f := range s.forwards.open {
			s.mu.Lock()
			n := len(s.clients)
			s.mu.Unlock()
			return n == 2 && f.replaced
		}
		return false
	})
	call(t, "tcp", "127.0.0.1:"+port, "fresh")
}
