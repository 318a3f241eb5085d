//go:build !linux

package igd

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"
)

// errLinux: elsewhere it would be by address alone that who is outside is told from who is inside, which is not enough.
var errLinux = fmt.Errorf("UPnP is served on Linux only, where sockets can be held to an interface: %w", errors.ErrUnsupported)

func bound(string) func(network, address string, c syscall.RawConn) error {
	return func(string, string, syscall.RawConn) error { return errLinux }
}

func openSSDP(context.Context, net.Interface, int) (*net.UDPConn, error) { return nil, errLinux }

const oobSize = 0

func arrived([]byte) (to netip.Addr, index int, ok bool) { return netip.Addr{}, 0, false }

func from(netip.Addr, int) []byte { return nil }

func isGone(error) bool { return true }
