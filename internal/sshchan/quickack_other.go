//go:build !linux

package sshchan

import "net"

// acknowledger is for systems that can be told to acknowledge at once.
func acknowledger(net.Conn) func() { return nil }
