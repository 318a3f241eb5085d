package main

import (
	"context"
	"fmt"
	"io"

	"golang.org/x/crypto/ssh"

	"github.com/fairlead-net/fairlead/node/sshnode/sshconfig"
)

// directTCP is the payload of a direct-tcpip channel (RFC 4254, section 7.2).
type directTCP struct {
	Host       string
	Port       uint32
	Originator string
	From       uint32
}

// directUnix is the payload of a direct-streamlocal@openssh.com channel (PROTOCOL of OpenSSH, section 2.4).
type directUnix struct {
	Path     string
	Reserved string
	Port     uint32
}

// carryStdio is -W: what comes in goes to a target behind the server, and back. Each direction ends by itself.
func carryStdio(ctx context.Context, client *ssh.Client, to sshconfig.End, in io.Reader, out io.Writer) error {
	kind, payload := "direct-tcpip", any(directTCP{to.Host, uint32(to.Port), "127.0.0.1", 65535})
	if to.Path != "" {
		kind, payload = "direct-streamlocal@openssh.com", directUnix{Path: to.Path}
	}
	ch, err := openSSH(ctx, client, kind, payload)
	if err != nil {
		return fmt.Errorf("-W %s: %w", to, err)
	}
	defer ch.Close()
	if err := ch.carry(ctx, in, out, io.Discard); ctx.Err() != nil {
		return &exitError{code: exitSSH}
	} else if err != nil {
		return fmt.Errorf("-W %s: %w", to, err)
	}
	return nil
}
