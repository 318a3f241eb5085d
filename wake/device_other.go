//go:build !linux

package wake

import (
	"syscall"

	"github.com/fairlead-net/fairlead/forward"
)

// bindTo does nothing: the address of the socket decides by which interface it sends.
func bindTo(string) func(network, address string, c syscall.RawConn) error { return nil }

// sendFrames sends none: what it needs (BPF, Npcap) is not part of every system, and broadcasts reach the same cards.
func sendFrames([]link, []forward.MAC, []byte) []Copy { return nil }
