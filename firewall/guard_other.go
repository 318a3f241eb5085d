//go:build !linux

package firewall

import (
	"context"

	"github.com/fairlead-net/fairlead/forward"
)

func (g *Guard) refresh(context.Context, Host) error { return ErrUnsupported }

func (g *Guard) ensure(context.Context, []spot, []*forward.Forward) (bool, error) {
	return false, ErrUnsupported
}

// Clear has nothing to take away.
func (g *Guard) Clear(context.Context) error { return nil }
