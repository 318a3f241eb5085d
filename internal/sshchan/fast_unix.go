//go:build unix

package sshchan

import "golang.org/x/sys/unix"

// resetSocket closes a socket so that its peer sees that nobody is there.
func resetSocket(fd int) {
	_ = unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
	_ = unix.Close(fd)
}
