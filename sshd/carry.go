package sshd

import (
	"net"
	"time"

	"github.com/fairlead-net/fairlead/internal/sshchan"
)

// carry moves bytes both ways until both directions have ended and the client has let go of the channel. When one direction
// ends, the other side is told and the other direction goes on.
func carry(ch channel, requests <-chan *request, target net.Conn, f *flow) {
	up, down := make(chan struct{}), make(chan struct{})
	go func() { defer close(up); toTarget(watched{target, f}, ch) }()
	go func() { defer close(down); toClient(ch, target) }()
	go closeAfter(ch, up, down)
	for r := range requests {
		r.reply(false, nil)
	}
	// The requests end with the channel. What the client has sent is still written; what the target sends, nobody would get.
	<-up
	_ = target.Close()
	<-down
}

func closeAfter(ch channel, up, down <-chan struct{}) {
	<-up
	<-down
	_ = ch.Close()
}

// watched is a target of which the flow knows how long it lets the client wait.
type watched struct {
	net.Conn
	flow *flow
}

func (w watched) Write(p []byte) (int, error) {
	w.flow.waiting.Store(time.Now().UnixNano())
	n, err := w.Conn.Write(p)
	w.flow.waiting.Store(0)
	return n, err
}

// toTarget is the direction from the client.
func toTarget(target watched, ch channel) {
	if sshchan.Copy(target, ch) != nil {
		_ = target.Close()
		return
	}
	closeWrite(target.Conn)
}

// toClient is the direction from the target.
func toClient(ch channel, target net.Conn) {
	if sshchan.Copy(ch, target) != nil {
		_ = ch.Close()
		return
	}
	_ = ch.CloseWrite()
}

func closeWrite(conn net.Conn) {
	if c, ok := conn.(interface{ CloseWrite() error }); ok {
		_ = c.CloseWrite()
	} else {
		_ = conn.Close()
	}
}
