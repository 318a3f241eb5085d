//go:build unix

package sshd

import (
	"os/exec"
	"syscall"
)

// ownGroup gives cmd a process group of its own; kill ends all that is in it.
func ownGroup(cmd *exec.Cmd) (kill func()) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	return func() { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
}
