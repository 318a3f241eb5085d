//go:build !linux

package link

import (
	"net"
	"time"
)

// tune sets what a socket of a link has.
func tune(c *net.TCPConn) {
	c.SetNoDelay(true)
	c.SetKeepAliveConfig(net.KeepAliveConfig{Enable: true, Idle: 5 * time.Second, Interval: 2 * time.Second, Count: 3})
}

func tcpRTT(*net.TCPConn) time.Duration { return 0 }

// giveUpAfter cannot be had here: keepalives find out.
func giveUpAfter(*net.TCPConn, time.Duration) {}
