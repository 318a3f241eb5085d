//go:build unix

package sshconfig

import (
	"io/fs"
	"os"
	"syscall"
)

// ownedWell reports whether a file belongs to the user or to root.
func ownedWell(info fs.FileInfo) bool {
	stat, ok := info.Sys().(*syscall.Stat_t)
	return !ok || stat.Uid == 0 || int(stat.Uid) == os.Getuid()
}
