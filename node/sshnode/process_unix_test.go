//go:build unix

package sshnode

import (
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
)

// isolate gives a process a group of its own.
func isolate(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} }

// killGroup kills it and its descendants: sshd gives its sessions groups of their own.
func killGroup(cmd *exec.Cmd) {
	for _, pid := range descendants(cmd.Process.Pid) {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
	_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
}

func descendants(parent int) []int {
	var list []int
	entries, _ := os.ReadDir("/proc")
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		stat, _ := os.ReadFile("/proc/" + e.Name() + "/stat")
		_, after, ok := strings.Cut(string(stat), ") ")
		if fields := strings.Fields(after); ok && len(fields) > 1 && fields[1] == strconv.Itoa(parent) {
			list = append(append(list, pid), descendants(pid)...)
		}
	}
	return list
}
