//go:build !linux

package pmpserver

import "net"

func growBuffer(conn *net.UDPConn, size int) { _ = conn.SetReadBuffer(size) }
