//go:build !linux

package relay

import "net"

func isDead(net.Conn) bool { return false }

func hasLeft(net.Conn) bool { return false }

func unsent(net.Conn) int { return 0 }
