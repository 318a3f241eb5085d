//go:build !linux

package relay

import (
	"net"
	"testing"
)

// hasClient cannot be told here without accepting.
func hasClient(*testing.T, net.Listener) bool { return true }
