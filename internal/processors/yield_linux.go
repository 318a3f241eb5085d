package processors

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// yieldThread has the kernel run the other threads that wait for a processor before this one, see sched_yield(2).
func yieldThread() { _, _, _ = syscall.RawSyscall(unix.SYS_SCHED_YIELD, 0, 0, 0) }
