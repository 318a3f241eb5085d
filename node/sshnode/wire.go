package sshnode

import (
	"context"
	"net"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/fairlead-net/fairlead/internal/sshchan"
	"github.com/fairlead-net/fairlead/node"
)

// A wire is an SSH connection that is logged in, and whoever speaks the protocol on it: internal/sshwire where it can, else
// golang.org/x/crypto/ssh.
type wire interface {
	// serve hands on the channels that the server opens, until the connection ends, and says why it did. arrive does not wait
	// for anything. The connection is given up when the server leaves so many questions unanswered that come after a silence of
	// keepalive each.
	serve(keepalive time.Duration, unanswered int, arrive func(arriving)) error
	// request makes a global request that the server answers.
	request(name string, payload []byte) (ok bool, reply []byte, err error)
	// open opens a channel, and calls gone when the server has let go of it, if it was opened or still may be after an error of
	// ctx. What the server says against it is an *ssh.OpenChannelError.
	open(ctx context.Context, o opening, gone func()) (net.Conn, error)
	server() string // its version
	alive() bool    // false: the connection has ended
	close()
}

// An arriving is a channel that the server opens.
type arriving struct {
	kind   string
	extra  []byte
	accept func(local, remote net.Addr, gone func()) (net.Conn, error)
	reject func(reason ssh.RejectionReason, text string)
	meet   func(fd int, o node.MeetOptions, gone func()) node.Borne // instead of accept; nil: it cannot
}

// plainWire is x/crypto's.
type plainWire struct {
	client *ssh.Client
	conn   *sshchan.Wire
	opened []<-chan ssh.NewChannel // by the server, for each kind that is known
}

// newPlainWire takes hold of what the server opens at once: x/crypto refuses what comes while nobody does, and a server may open
// channels as soon as it has been asked to listen.
func newPlainWire(client *ssh.Client, conn *sshchan.Wire) *plainWire {
	w := &plainWire{client: client, conn: conn}
	for _, kind := range []string{sshchan.Forwarded, sshchan.ForwardedUnix} {
		w.opened = append(w.opened, client.HandleChannelOpen(kind))
	}
	return w
}

func (w *plainWire) serve(keepalive time.Duration, unanswered int, arrive func(arriving)) error {
	var served sync.WaitGroup
	for _, channels := range w.opened {
		served.Go(func() {
			for ch := range channels {
				arrive(w.arriving(ch))
			}
		})
	}
	dead := make(chan error, 1)
	go func() {
		defer close(dead)
		w.conn.Keepalive(keepalive, unanswered, w.ask, func(silent time.Duration) {
			dead <- silentError(silent)
			w.close()
		})
	}()
	err := w.client.Wait()
	w.close()
	if silent := <-dead; silent != nil {
		err = silent
	}
	served.Wait()
	return err
}

// ask puts a question to which any answer will do.
func (w *plainWire) ask() { _, _, _ = w.client.SendRequest(sshchan.Keepalive, true, nil) }

func (w *plainWire) arriving(ch ssh.NewChannel) arriving {
	return arriving{
		kind: ch.ChannelType(), extra: ch.ExtraData(),
		accept: func(local, remote net.Addr, gone func()) (net.Conn, error) {
			channel, requests, err := ch.Accept()
			if err != nil {
				return nil, err
			}
			return w.wrap(channel, requests, local, remote, gone), nil
		},
		reject: func(reason ssh.RejectionReason, text string) { _ = ch.Reject(reason, text) },
	}
}

func (w *plainWire) request(name string, payload []byte) (bool, []byte, error) {
	return w.client.SendRequest(name, true, payload)
}

func (w *plainWire) open(ctx context.Context, o opening, gone func()) (net.Conn, error) {
	ch, requests, err := sshchan.Open(ctx, w.client, o.kind, o.payload, gone)
	if err != nil {
		return nil, err
	}
	return w.wrap(ch, requests, localAddr(o.remote), o.remote, gone), nil
}

func (w *plainWire) wrap(ch ssh.Channel, requests <-chan *ssh.Request, local, remote net.Addr, gone func()) net.Conn {
	return sshchan.New(ch, requests, sshchan.Ends{Local: local, Remote: remote, Wire: w.conn, Gone: gone})
}

func (w *plainWire) server() string { return string(w.client.ServerVersion()) }

func (w *plainWire) alive() bool {
	select {
	case <-w.conn.Done():
		return false
	default:
		return true
	}
}

func (w *plainWire) close() { _ = w.conn.Close() }
