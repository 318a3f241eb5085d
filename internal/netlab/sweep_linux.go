package netlab

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

const (
	netnsDir   = "/run/netns" // where iproute2 keeps the names of namespaces
	namePrefix = "flab-"      // then PID-STARTTIME-LAB-NODE
)

// ownPrefix begins the names of this process's namespaces. The start time tells this process from an earlier one that had
// the same id.
func ownPrefix() string {
	pid := os.Getpid()
	return fmt.Sprintf("%s%d-%s-", namePrefix, pid, startTime(strconv.Itoa(pid)))
}

// startTime is when a process began, in clock ticks since boot, or "" when there is no such process.
func startTime(pid string) string {
	stat, err := os.ReadFile("/proc/" + pid + "/stat")
	if err != nil {
		return ""
	}
	// The second field is the command in parentheses and may itself hold anything; count from behind it. See proc_pid_stat(5).
	after := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	if len(after) < 20 {
		return ""
	}
	return after[19]
}

// sweep removes the namespaces that processes left behind that died before they could clean up. Another process may sweep at
// the same moment, so that nothing here is an error.
func sweep() {
	entries, err := os.ReadDir(netnsDir)
	if err != nil {
		return
	}
	for _, e := range entries {
		if stale(e.Name()) {
			killAll(filepath.Join(netnsDir, e.Name()))
			_ = netns.DeleteNamed(e.Name())
		}
	}
}

// stale reports whether name is a lab's whose process has ended.
func stale(name string) bool {
	rest, ours := strings.CutPrefix(name, namePrefix)
	parts := strings.SplitN(rest, "-", 3)
	return ours && len(parts) == 3 && startTime(parts[0]) != parts[1]
}

// killAll ends the processes that still run in the namespace at path.
func killAll(path string) {
	var want unix.Stat_t
	if unix.Stat(path, &want) != nil {
		return
	}
	procs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return
	}
	for _, p := range procs {
		var has unix.Stat_t
		pid, err := strconv.Atoi(filepath.Base(p))
		if err != nil || pid == os.Getpid() || unix.Stat(p+"/ns/net", &has) != nil {
			continue
		}
		if has.Dev == want.Dev && has.Ino == want.Ino {
			_ = unix.Kill(pid, unix.SIGKILL)
		}
	}
}
