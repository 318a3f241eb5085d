package sshd

import (
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// detach takes the socket out of a connection of package net's, which is closed; false: there is none, and it is as before.
func detach(conn net.Conn) (fd int, ok bool) {
	switch conn.(type) {
	case *net.TCPConn, *net.UnixConn:
	default:
		return -1, false
	}
	raw, err := conn.(syscall.Conn).SyscallConn()
	if err != nil {
		return -1, false
	}
	fd = -1
	if outer := raw.Control(func(old uintptr) { fd, err = unix.FcntlInt(old, unix.F_DUPFD_CLOEXEC, 0) }); outer != nil || err != nil {
		return -1, false
	}
	_ = conn.Close() // the duplicate is still open
	return fd, true
}

// keepAlive has the kernel ask after a target that is silent for long, as package net does.
func keepAlive(fd int) {
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1)
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, 15)
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, 15)
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_KEEPCNT, 9)
}
