//go:build !linux

package neighbours

import (
	"errors"
	"net/netip"
)

// system says that nothing is known.
func system(func(addr netip.Addr, mac string)) error {
	return errors.New("the neighbour table can be read on Linux alone")
}
