package sshd

import (
	"context"
	"io"
	"net"
	"time"

	"golang.org/x/crypto/ssh"
)

// A peer is a connection that a client has logged in on. There are two kinds, of the two implementations of the protocol: a
// wirePeer where sshwire speaks what the client does, else a plainPeer. All that is decided is decided above them.
type peer interface {
	User() string
	ClientVersion() []byte
	// serve gives what the client asks for to c, until the connection ends, as it does with ctx, and says why it has.
	serve(ctx context.Context, c *client) error
	// open opens a channel to the client, and carries f in it. gone is called once, when the client has let go of it or was not
	// led to open it. An *ssh.OpenChannelError is what the client said.
	open(ctx context.Context, kind string, payload []byte, f *flow, e ends) (net.Conn, error)
	Close() error
}

// ends are the addresses of a channel, and what is to be done when it is gone.
type ends struct {
	local, remote net.Addr
	gone          func()
}

// An incoming is a channel that the client wants to open. Its other methods than the first two answer it.
type incoming interface {
	kind() string
	payload() []byte
	reject(reason ssh.RejectionReason, text string)
	accept() (channel, <-chan *request, error) // the requests end with the channel
}

// A carrier is an incoming that can be given a socket, whose bytes then move without a goroutine.
type carrier interface {
	incoming
	// carry takes over the socket fd, which does not block, and opens the channel once it is connected. It does not wait.
	carry(fd int, o carriage)
}

// A carriage says how a socket is carried. Its functions are called in the peer's loop and must not wait for anything.
type carriage struct {
	connecting time.Duration // that it may take to connect; 0: it is connected
	flow       *flow
	failed     func(error) // it did not connect, and the client was told so
	ended      func()      // everything is over
}

// A channel is an open one.
type channel interface {
	io.ReadWriteCloser
	CloseWrite() error
	complain(text string)             // as the standard error of a command
	tell(name string, payload []byte) // a request that wants no answer
}

// A request is one of the client's, for all of the connection or in a channel. It is answered once; the answers are in the
// order of the requests.
type request struct {
	kind    string
	payload []byte
	reply   func(ok bool, payload []byte)
}
