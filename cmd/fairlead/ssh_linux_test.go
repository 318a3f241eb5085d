package main

import (
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// The scripts of fairlead ssh log in to a real sshd of their own, as the user who runs the tests: sshd lets nobody else in.
func TestSSHScripts(t *testing.T) {
	for _, program := range []string{"sshd", "ssh", "ssh-keygen", "ssh-agent", "ssh-add", "curl", "nc"} {
		if _, err := lookSbin(program); err != nil {
			if os.Getenv("FAIRLEAD_NETNS") == "require" {
				t.Fatal(err)
			}
			t.Skip(err)
		}
	}
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/ssh",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(env *testscript.Env) error {
			env.Setenv("TERM", "vt100")
			env.Setenv("SSH_AUTH_SOCK", "")
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"freeport": scriptFreePort, "serve": scriptServe, "get": scriptGet, "code": scriptCode, "subst": scriptSubst, "signal": scriptSignal,
			"sshd": scriptSSHD, "allocated": scriptAllocated, "curl": scriptCurl, "converse": scriptConverse,
		},
	})
}

// lookSbin is exec.LookPath that also looks where ordinary users do not.
func lookSbin(program string) (string, error) {
	path, err := exec.LookPath(program)
	if err != nil {
		return exec.LookPath("/usr/sbin/" + program)
	}
	return path, nil
}

// sshd [LINE...]: starts OpenSSH's server with more lines of sshd_config(5). The file "config" has the host "srv".
func scriptSSHD(ts *testscript.TestScript, _ bool, lines []string) {
	dir := ts.MkAbs(".")
	me, err := user.Current()
	ts.Check(err)
	if os.Geteuid() == 0 {
		ts.Check(os.MkdirAll("/run/sshd", 0o755))
	}
	for _, key := range []string{"hostkey", "id"} {
		ts.Check(ts.Exec("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "test", "-f", filepath.Join(dir, key)))
	}
	scriptFreePort(ts, false, []string{"SSHPORT"})
	config := fmt.Sprintf("Port %s\nListenAddress 127.0.0.1\nHostKey %[2]s/hostkey\nAuthorizedKeysFile %[2]s/id.pub\nPidFile none\nUsePAM no\n"+
		"StrictModes no\nPermitRootLogin yes\nAcceptEnv FL_*\nSubsystem upper %[2]s/upper\n%s\n", ts.Getenv("SSHPORT"), dir, strings.Join(lines, "\n"))
	ts.Check(os.WriteFile(filepath.Join(dir, "sshd_config"), []byte(config), 0o600))
	ts.Check(os.WriteFile(filepath.Join(dir, "upper"), []byte("#!/bin/sh\nexec tr a-z A-Z\n"), 0o700))
	public, err := os.ReadFile(filepath.Join(dir, "hostkey.pub"))
	ts.Check(err)
	ts.Check(os.WriteFile(filepath.Join(dir, "known"), fmt.Appendf(nil, "[127.0.0.1]:%s %s", ts.Getenv("SSHPORT"), public), 0o600))
	ts.Check(os.WriteFile(filepath.Join(dir, "config"), fmt.Appendf(nil,
		"Host srv\n  HostKeyAlias [127.0.0.1]:%[2]s\nHost *\n  Hostname 127.0.0.1\n  Port %[2]s\n  User %[3]s\n  IdentityFile %[1]s/id\n"+
			"  UserKnownHostsFile %[1]s/known\n  GlobalKnownHostsFile none\n", dir, ts.Getenv("SSHPORT"), me.Username), 0o600))
	sshd, err := lookSbin("sshd")
	ts.Check(err)
	cmd := exec.Command(sshd, "-D", "-e", "-f", filepath.Join(dir, "sshd_config"))
	log, err := os.Create(filepath.Join(dir, "sshd.log"))
	ts.Check(err)
	cmd.Stdout, cmd.Stderr = log, log
	ts.Check(cmd.Start())
	ts.Defer(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		_ = log.Close()
	})
	said := func() string {
		text, _ := os.ReadFile(log.Name())
		return string(text)
	}
	if !retry(func() bool { return strings.Contains(said(), "Server listening on") }) {
		ts.Fatalf("sshd does not listen: %s", said())
	}
}

// allocated VAR FILE: the port that FILE says was allocated, once it does.
func scriptAllocated(ts *testscript.TestScript, _ bool, args []string) {
	if !retry(func() bool {
		text, _ := os.ReadFile(ts.MkAbs(args[1]))
		var port int
		n, _ := fmt.Sscanf(string(text), "Allocated port %d for", &port)
		ts.Setenv(args[0], fmt.Sprint(port))
		return n == 1
	}) {
		ts.Fatalf("no port was allocated")
	}
}

// curl TEXT ARG...: runs curl until its output has TEXT.
func scriptCurl(ts *testscript.TestScript, _ bool, args []string) {
	var out []byte
	if !retry(func() bool {
		cmd := exec.Command("curl", append([]string{"-gsS", "-m", "5"}, args[1:]...)...)
		cmd.Dir = ts.MkAbs(".")
		out, _ = cmd.CombinedOutput()
		return strings.Contains(string(out), args[0])
	}) {
		ts.Fatalf("curl %s: %s", strings.Join(args[1:], " "), out)
	}
}
