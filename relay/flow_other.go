//go:build !linux

package relay

import (
	"context"
	"net"
)

// directFlow is a flow that the engine carries: here there is none.
type directFlow struct{}

func (*Relay) takeOverPackets(context.Context, *listener) bool { return false }

func (*Relay) handOverFlow(*flow, net.Conn) bool { return false }
