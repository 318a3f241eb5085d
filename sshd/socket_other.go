//go:build !linux

package sshd

import "net"

// Where sshwire has no loop, nobody carries sockets.

func detach(net.Conn) (fd int, ok bool) { return -1, false }

func keepAlive(int) {}
