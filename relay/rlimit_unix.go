//go:build unix

package relay

import "golang.org/x/sys/unix"

// descriptorLimit is how many file descriptors this process may have, or 0 when that is not known.
func descriptorLimit() uint64 {
	var r unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &r); err != nil {
		return 0
	}
	return uint64(r.Cur)
}
