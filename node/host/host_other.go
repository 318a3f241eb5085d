//go:build !linux

package host

import (
	"syscall"

	"github.com/fairlead-net/fairlead/node"
)

const (
	canBindInterface = false
	canDialFrom      = false
)

func prepare(_ syscall.RawConn, b node.Binding) error {
	if b.Interface != "" {
		return ErrNoInterfaces
	}
	return nil
}

// reusePort does nothing: these systems let an exact address stand beside the wildcard as it is.
func reusePort(syscall.RawConn, bool) error { return nil }
