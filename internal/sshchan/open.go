package sshchan

import (
	"context"

	"golang.org/x/crypto/ssh"
)

// Open opens a channel, for no longer than ctx lasts. A far end that has not answered by then may still do so, for as long as
// its connection lives; the channel is closed then, and late is called.
func Open(ctx context.Context, conn ssh.Conn, kind string, payload []byte, late func()) (ssh.Channel, <-chan *ssh.Request, error) {
	answers := make(chan answer, 1)
	go func() {
		channel, requests, err := conn.OpenChannel(kind, payload)
		answers <- answer{channel, requests, err}
	}()
	select {
	case a := <-answers:
		return a.channel, a.requests, a.err
	case <-ctx.Done():
		go forsake(answers, late)
		return nil, nil, ctx.Err()
	}
}

// An answer is what came of the wish for a channel.
type answer struct {
	channel  ssh.Channel
	requests <-chan *ssh.Request
	err      error
}

// forsake waits for a channel that nobody wants any more.
func forsake(answers <-chan answer, late func()) {
	defer late()
	if a := <-answers; a.err == nil {
		_ = a.channel.Close()
		ssh.DiscardRequests(a.requests)
	}
}
