//go:build !linux

package kernel

import (
	"context"
	"net/netip"
	"time"

	"github.com/fairlead-net/fairlead/forward"
)

// A Gateway on this system refuses.
type Gateway struct{}

// NewGateway returns a gateway that refuses.
func NewGateway(GatewayOptions) *Gateway { return &Gateway{} }

// Apply refuses, unless nothing is asked for.
func (*Gateway) Apply(_ context.Context, spec *forward.Gateway, _ []forward.Listen, _ forward.List) error {
	if spec == nil {
		return nil
	}
	return errNoLinux
}

// Admit has nobody to let in.
func (*Gateway) Admit(string, netip.Addr, netip.AddrPort, time.Duration) error { return nil }

// Dismiss has let nobody in.
func (*Gateway) Dismiss(netip.Addr, netip.AddrPort) error { return nil }

// Lost has nothing to lose.
func (*Gateway) Lost() bool { return false }

// Clear has nothing to remove.
func (*Gateway) Clear() error { return nil }

// Close has nothing to give back.
func (*Gateway) Close() error { return nil }
