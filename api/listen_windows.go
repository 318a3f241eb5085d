package api

import (
	"errors"
	"net"
	"os"
)

var errLocked = errors.New("locked by another process")

// lock takes nothing: Windows has no flock, and the answer of a running daemon at the socket has to do.
func lock(string) (*os.File, error) { return nil, nil }

// bindPrivate relies on the directory: a unix socket of Windows has the access list of the folder it lies in.
func bindPrivate(path string) (*net.UnixListener, error) {
	return net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
}
