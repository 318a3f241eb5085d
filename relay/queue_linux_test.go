package relay

import (
	"net"
	"testing"

	"golang.org/x/sys/unix"
)

// hasClient reports whether somebody waits to be accepted just now.
func hasClient(t *testing.T, ln net.Listener) bool {
	t.Helper()
	raw, err := ln.(*net.TCPListener).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	if failed := raw.Control(func(fd uintptr) { n, err = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0) }); failed != nil || err != nil {
		t.Fatal(failed, err)
	}
	return n > 0
}
