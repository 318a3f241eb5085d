//go:build !linux

package agent

import (
	"net"
	"syscall"
)

func duplicate(net.Conn) (fd int, ok bool) { return -1, false }

func discard(int) {}

// readable does not wait: the reader does.
func readable(syscall.RawConn) error { return nil }

func peerOf(int) net.Addr { return nil }
