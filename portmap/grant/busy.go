package grant

import (
	"errors"
	"io/fs"
	"net/netip"
	"syscall"

	"github.com/fairlead-net/fairlead/forward"
)

// Busy reports whether a program of this host has a port at an IPv4 address of its own, or at all of them. It finds out by taking the
// port for a moment: the system knows best, and looking through the list of all sockets takes longer the more there are. An address
// that this host does not have has no programs; a port that this program may not have is taken for one that another has.
func Busy(network forward.Networks, at netip.AddrPort) bool {
	err := takeAndLeave(network, at)
	return errors.Is(err, syscall.EADDRINUSE) || errors.Is(err, fs.ErrPermission)
}
