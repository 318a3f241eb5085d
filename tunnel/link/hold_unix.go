//go:build unix

package link

import (
	"os"

	"golang.org/x/sys/unix"
)

const canFill = true

// fillOnce reads what there is. It takes a buffer only for as long as there may be something, so that nobody who waits has one.
func (h *holder) fillOnce(fd uintptr) bool {
	buf := inPool.get(inSize)
	for {
		n, err := unix.Read(int(fd), buf)
		switch {
		case err == unix.EINTR:
			continue
		case err == unix.EAGAIN:
			inPool.put(buf)
			return false
		case err != nil:
			inPool.put(buf)
			h.gotErr = os.NewSyscallError("read", err)
		case n == 0:
			inPool.put(buf)
			h.got = 0
		default:
			h.ahead, h.got = buf, n
		}
		return true
	}
}
