package main

import (
	"context"
	"fmt"
	"io"

	"golang.org/x/crypto/ssh"

	"github.com/fairlead-net/fairlead/internal/sshchan"
	"github.com/fairlead-net/fairlead/node/sshnode/sshconfig"
)

// carryStdio is -W: what comes in goes to a target behind the server, and back. Each direction ends by itself.
func carryStdio(ctx context.Context, client *ssh.Client, to sshconfig.End, in io.Reader, out io.Writer) error {
	kind, payload := sshchan.Direct, any(sshchan.TCPChannel{Host: to.Host, Port: uint32(to.Port), OriginHost: "127.0.0.1", OriginPort: 65535})
	if to.Path != "" {
		kind, payload = sshchan.DirectUnix, sshchan.DirectUnixChannel{Path: to.Path}
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
