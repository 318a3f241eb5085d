package sshd

import (
	"context"
	"io"

	"golang.org/x/crypto/ssh"
)

const noShell = "this server forwards ports and has no shell; use ssh -N\r\n"

// Of RFC 4254, section 6, and OpenSSH's PROTOCOL, section 2.2.
const (
	channelSession       = "session"
	requestNoMoreSession = "no-more-sessions@openssh.com"
)

type exitMessage struct{ Status uint32 }

// serveSession keeps a session channel open, which clients open that were not told -N. There is nothing to run in it, so who
// asks is told so and gets the exit status 1. The request itself is answered with yes: after a no, clients show no message.
func (c *client) serveSession(ctx context.Context, nc ssh.NewChannel) {
	if c.noMoreSessions.Load() {
		_ = nc.Reject(ssh.Prohibited, "the client has said that it wants no more sessions")
		return
	}
	channel, requests, err := nc.Accept()
	if err != nil {
		return
	}
	go drain(channel) // ends with the channel
	for r := range requests {
		run := r.Type == "shell" || r.Type == "exec"
		// A terminal is granted as well, since a client that wants one badly leaves without it. It will not be used.
		_ = r.Reply(run || r.Type == "pty-req", nil)
		if !run {
			continue
		}
		_, _ = io.WriteString(channel.Stderr(), noShell)
		_, _ = channel.SendRequest("exit-status", false, ssh.Marshal(exitMessage{1}))
		_ = channel.CloseWrite()
		_ = channel.Close()
	}
}

// drain reads what nobody wants, so that the client's window stays open.
func drain(channel ssh.Channel) { _, _ = io.Copy(io.Discard, channel) }
