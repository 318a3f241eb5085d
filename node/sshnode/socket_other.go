//go:build !linux

package sshnode

import (
	"net"
	"time"
)

// setUserTimeout does nothing where the system has no such option: the keepalives notice as well.
func setUserTimeout(net.Conn, time.Duration) {}
