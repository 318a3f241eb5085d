package kernel

import (
	"fmt"
	"os"
	"strings"
)

// ForegroundTable is the name of the table of a forward that lives as long as this process.
func ForegroundTable() string {
	return fmt.Sprintf("%s%d_%s", foregroundPrefix, os.Getpid(), startTime(fmt.Sprint(os.Getpid())))
}

// alive reports whether the process that a foreground table is named after still runs.
func alive(table string) bool {
	pid, started, _ := strings.Cut(strings.TrimPrefix(table, foregroundPrefix), "_")
	return startTime(pid) == started
}

// startTime is when the process began, in clock ticks after boot: field 22 of /proc/PID/stat (proc_pid_stat(5)), counted
// from behind the command name, which may hold anything. It is "0" where the process is gone.
func startTime(pid string) string {
	b, err := os.ReadFile("/proc/" + pid + "/stat")
	if err != nil {
		return "0"
	}
	fields := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
	if len(fields) < 20 {
		return "0"
	}
	return fields[19]
}
