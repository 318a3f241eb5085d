package sshwire_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/fairlead-net/fairlead/internal/sshwire"
)

// A client that carries an accepted socket, whose descriptor the caller has taken out of its net.Conn.
func ExampleClient() {
	dialAndCarry := func(ctx context.Context, tcp *net.TCPConn, key ssh.Signer, hostKey ssh.PublicKey, fd int, extra []byte) error {
		conn, err := sshwire.Client(tcp, &sshwire.ClientConfig{
			User: "me", Signers: []ssh.Signer{key}, HostKeyCallback: ssh.FixedHostKey(hostKey), Timeout: 20 * time.Second,
		})
		if errors.Is(err, sshwire.ErrUnsupported) {
			return fmt.Errorf("connect again, with x/crypto/ssh: %w", err)
		}
		if err != nil {
			return err
		}
		conn.OpenChannelCarry("direct-tcpip", extra, fd, sshwire.CarryOptions{
			Ended: func(c *sshwire.Carried) { fmt.Println("sent", c.Moved(sshwire.FromSocket)) },
		})
		return conn.Run(ctx, sshwire.Options{Keepalive: 15 * time.Second})
	}
	_ = dialAndCarry
}

// A server that leaves to x/crypto/ssh what is not spoken here.
func ExampleServer() {
	serve := func(ctx context.Context, tcp *net.TCPConn, config *sshwire.ServerConfig, general func(net.Conn) error) error {
		conn, err := sshwire.Server(tcp, config)
		var other *sshwire.UnsupportedError
		if errors.As(err, &other) && other.Conn != nil {
			return general(other.Conn) // with the same ServerVersion
		}
		if err != nil {
			return errors.Join(err, tcp.Close())
		}
		return conn.Run(ctx, sshwire.Options{Channel: func(in *sshwire.Incoming) {
			// A socket whose connect has begun would go on with in.AcceptCarry.
			in.Reject(sshwire.Prohibited, "nothing is permitted here")
		}})
	}
	_ = serve
}
