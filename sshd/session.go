package sshd

import (
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
func (c *client) serveSession(in incoming) {
	ch, requests, err := in.accept()
	if err != nil {
		return
	}
	go drain(ch) // ends with the channel
	for r := range requests {
		run := r.kind == "shell" || r.kind == "exec"
		// A terminal is granted as well, since a client that wants one badly leaves without it. It will not be used.
		r.reply(run || r.kind == "pty-req", nil)
		if !run {
			continue
		}
		ch.tell("exit-status", ssh.Marshal(exitMessage{1})) // before what the end of the channel waits for
		ch.complain(noShell)
		_ = ch.CloseWrite()
		_ = ch.Close()
	}
}

// drain reads what nobody wants, so that the client's window stays open.
func drain(ch channel) { _, _ = io.Copy(io.Discard, ch) }
