package api

import (
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// allowed reports whether the process at the other end belongs to root or to the user that this process runs as now. The
// file mode says the same; this holds when somebody loosens it.
func allowed(c *net.UnixConn) bool {
	raw, err := c.SyscallConn()
	if err != nil {
		return false
	}
	var cred *unix.Ucred
	var credErr error
	if err := raw.Control(func(fd uintptr) {
		cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); err != nil || credErr != nil {
		return false
	}
	return cred.Uid == 0 || int(cred.Uid) == os.Geteuid()
}
