package sshd

import (
	"os/exec"
	"strings"
	"testing"
)

// TestAudit wants ssh-audit to find no failure and no warning. It also marks with [warn] what it does not know: an old one has
// not heard of ML-KEM (2.5.0 is from 2021), and that is no finding.
func TestAudit(t *testing.T) {
	audit := program(t, "ssh-audit")
	keys, err := MakeHostKeys(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	s := startServer(t, func(o *Options) { o.HostKeys = keys })
	out, _ := exec.Command(audit, "--no-colors", "-p", s.port, "127.0.0.1").CombinedOutput()
	for line := range strings.Lines(string(out)) {
		bad := strings.Contains(line, "[fail]") || strings.Contains(line, "[warn]")
		if bad && !strings.Contains(line, "-- [warn] unknown algorithm") {
			t.Error(strings.TrimSpace(line))
		}
	}
	for _, want := range []string{"mlkem768x25519-sha256", "ssh-ed25519", "rsa-sha2-512"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("ssh-audit does not find %s", want)
		}
	}
	if t.Failed() {
		t.Logf("%s", out)
	}
}
