package sshd

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"testing"
)

// plainEnv has every client served by x/crypto.
const plainEnv = "FAIRLEAD_TEST_PLAIN_SSH"

// TestMain runs all tests once more with it, at the same time, if all are to be run.
func TestMain(m *testing.M) {
	flag.Parse()
	for _, name := range []string{"test.run", "test.skip", "test.list", "test.fuzz", "test.bench"} {
		if flag.Lookup(name).Value.String() != "" || os.Getenv(plainEnv) != "" {
			os.Exit(m.Run())
		}
	}
	cmd := exec.Command(os.Args[0], "-test.timeout=5m")
	cmd.Env = append(os.Environ(), plainEnv+"=1")
	done := make(chan bool)
	go func() {
		out, err := cmd.CombinedOutput()
		if err != nil {
			fmt.Printf("with x/crypto alone: %v\n%s", err, out)
		}
		done <- err == nil
	}()
	code := m.Run()
	if ok := <-done; !ok {
		code = 1
	}
	os.Exit(code)
}

// clientOf is the only client.
func (s *testServer) clientOf() *client {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.clients {
		return c
	}
	return nil
}
