package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"golang.org/x/crypto/ssh"

	"github.com/fairlead-net/fairlead/internal/sshchan"
)

// An sshChannel is one channel that the program's own input and output are wired to: a session or the one of -W.
type sshChannel struct {
	ssh.Channel
	requests <-chan *ssh.Request
	status   int // of the command; -1 while there is none
	signal   string
}

// openSSH opens a channel; when ctx ends, it is closed.
func openSSH(ctx context.Context, client *ssh.Client, kind string, payload any) (*sshChannel, error) {
	var data []byte
	if payload != nil {
		data = ssh.Marshal(payload)
	}
	ch, requests, err := sshchan.Open(ctx, client, kind, data, func() {})
	if err != nil {
		var refused *ssh.OpenChannelError
		if errors.As(err, &refused) {
			return nil, fmt.Errorf("the server refuses it: %s (%s)", plain(refused.Message), refused.Reason)
		}
		return nil, err
	}
	context.AfterFunc(ctx, func() { _ = ch.Close() })
	return &sshChannel{Channel: ch, requests: requests, status: -1}, nil
}

// ask sends a request that the server has to agree to.
func (c *sshChannel) ask(name string, payload any) error {
	var data []byte
	if payload != nil {
		data = ssh.Marshal(payload)
	}
	ok, err := c.SendRequest(name, true, data)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if !ok {
		return fmt.Errorf("the server refuses the request %s", name)
	}
	return nil
}

// carry copies until the server has closed the channel: in to it, its output to out and errs. It does not wait for in, which
// cannot be called off, nor, when ctx ends, for the server, which may keep a channel open for as long as its command runs:
// what still copies then ends with the connection.
func (c *sshChannel) carry(ctx context.Context, in io.Reader, out, errs io.Writer) error {
	var outputs sync.WaitGroup
	var failed error
	outputs.Go(func() { failed = copyOutput(out, c.Channel) })
	outputs.Go(func() { _ = copyOutput(errs, c.Stderr()) })
	go copyInput(c.Channel, in)
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		for r := range c.requests { // ends when the channel is closed
			c.answer(r)
		}
		outputs.Wait()
	}()
	select {
	case <-closed:
		return failed
	case <-ctx.Done():
		return ctx.Err()
	}
}

// copyOutput copies what the server says. After an error the rest is thrown away, so that the channel does not stand still.
func copyOutput(to io.Writer, from io.Reader) error {
	_, err := io.CopyBuffer(struct{ io.Writer }{to}, from, make([]byte, 64<<10))
	if err != nil {
		_, _ = io.Copy(io.Discard, from)
	}
	return err
}

// copyInput copies what is typed, and then says that there is no more.
func copyInput(ch ssh.Channel, in io.Reader) {
	_, _ = io.CopyBuffer(struct{ io.Writer }{ch}, struct{ io.Reader }{in}, make([]byte, 32<<10))
	_ = ch.CloseWrite()
}

// answer takes a request of the server's (RFC 4254, section 6.10).
func (c *sshChannel) answer(r *ssh.Request) {
	ok := false
	switch r.Type {
	case "exit-status":
		var m struct{ Status uint32 }
		if ssh.Unmarshal(r.Payload, &m) == nil {
			c.status, ok = int(m.Status&0xff), true
		}
	case "exit-signal":
		var m struct {
			Name    string
			Dumped  bool
			Message string
			Lang    string
		}
		if ssh.Unmarshal(r.Payload, &m) == nil {
			c.signal, ok = plain(m.Name), true
		}
	case sshchan.Keepalive:
		ok = true
	}
	if r.WantReply {
		_ = r.Reply(ok, nil)
	}
}
