//go:build unix

package api

import (
	"errors"
	"net"
	"os"
	"syscall"
)

var errLocked = errors.New("locked by another process")

// lock takes an exclusive lock that the kernel gives back when the process ends, however it ends. It is what keeps two
// daemons that start at the same moment from each taking the other's fresh socket for a stale one.
func lock(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, errLocked
		}
		return nil, &os.PathError{Op: "lock", Path: path, Err: err}
	}
	return f, nil
}

// bindPrivate makes the socket file with mode 0600 from its first moment on: a chmod afterwards would leave a gap.
func bindPrivate(path string) (*net.UnixListener, error) {
	old := syscall.Umask(0o177)
	defer syscall.Umask(old)
	return net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
}
