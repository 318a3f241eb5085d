package sshwire

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"syscall"
	"time"

	"golang.org/x/crypto/ssh"
)

const (
	maxVersion = 255         // with CR and LF (RFC 4253, section 4.2)
	maxGreets  = 64 << 10    // of lines that a server says before its version
	readChunk  = 16 << 10    // of what is read at once before the login
	helloWait  = time.Second // for the KEXINIT of a client; one that waits for ours, as scanners do, gets the general implementation
)

// A handshake is a connection until the login: everything in one goroutine, which waits.
type handshake struct {
	*transport
	conn   net.Conn
	in     []byte    // read and not taken yet
	taken  int       // of in: the message that was returned last
	seen   []byte    // everything that was read, as long as there may be a way back; nil: there is none
	until  time.Time // deadline of the login; zero: none
	peeked bool      // the next packet has been decrypted, and is
	peek   []byte
}

// ready is a login that is done: what a Conn is made of.
type ready struct {
	*transport
	loop        *Loop
	conn        Socket
	rest        []byte // read already
	login       *Login
	permissions *ssh.Permissions
}

// A Socket is a connection of the net package that has a descriptor: TCP, or a unix socket.
type Socket interface {
	net.Conn
	syscall.Conn
}

// Client logs in over conn. The deadline of conn is the caller's, unless there is a Timeout; closing it ends a login that is
// under way. With an error, conn is still the caller's, but no longer of use; with a Conn it belongs to that.
func Client(conn Socket, config *ClientConfig) (*Conn, error) {
	own, err := version(config.ClientVersion)
	if err != nil {
		return nil, err
	}
	if err := supported(); err != nil {
		return nil, err
	}
	if config.HostKeyCallback == nil {
		return nil, errors.New("an SSH client needs a HostKeyCallback")
	}
	h := newHandshake(conn, config.Algorithms, true)
	h.hostKeys = verifiable(config.HostKeyAlgorithms)
	for what, list := range map[string][]string{
		"key exchange": h.wanted.KeyExchanges, "cipher": h.wanted.Ciphers, "kind of host key": h.hostKeys,
	} {
		if len(list) == 0 {
			return nil, &UnsupportedError{What: what + " that was asked for"}
		}
	}
	host := config.Host
	if host == "" {
		host = conn.RemoteAddr().String()
	}
	h.checkKey = func(key ssh.PublicKey) error { return config.HostKeyCallback(host, conn.RemoteAddr(), key) }
	h.versions[0] = []byte(own)
	defer h.limit(config.Timeout)()
	h.seen = nil
	login, err := h.asClient(config)
	if err != nil {
		return nil, h.sayWhy(err)
	}
	return newConn(ready{transport: h.transport, loop: config.Loop, conn: conn, rest: h.in[h.taken:], login: login})
}

// Server lets a client in over conn. Closing it ends a login that is under way; its deadlines are set here, by Timeout. If the client speaks nothing that is spoken here,
// the error is an *UnsupportedError with a Conn to go on with.
func Server(conn Socket, config *ServerConfig) (*Conn, error) {
	own, err := version(config.ServerVersion)
	if err != nil {
		return nil, err
	}
	if config.PublicKeyCallback == nil || len(config.HostKeys) == 0 {
		return nil, errors.New("an SSH server needs a PublicKeyCallback and host keys")
	}
	h := newHandshake(conn, config.Algorithms, false)
	h.signers = config.HostKeys
	for _, s := range config.HostKeys {
		h.hostKeys = append(h.hostKeys, signersAlgorithms(s)...)
	}
	h.offered = config.PublicKeyAlgorithms
	if h.offered == nil {
		h.offered = defaultPublicKeys()
	}
	h.versions[1] = []byte(own)
	defer h.limit(config.Timeout)()
	login, permissions, err := h.asServer(config)
	var other *UnsupportedError
	if errors.As(err, &other) && h.seen != nil {
		other.Conn = newReplayed(conn, h.seen, own)
		return nil, other
	}
	if err != nil {
		return nil, h.sayWhy(err)
	}
	return newConn(ready{transport: h.transport, loop: config.Loop, conn: conn, rest: h.in[h.taken:], login: login, permissions: permissions})
}

func newHandshake(conn net.Conn, a Algorithms, client bool) *handshake {
	return &handshake{
		transport: &transport{client: client, wanted: a.complete(), noise: newNoise()},
		conn:      conn, seen: []byte{},
	}
}

// limit sets the deadline of the login; what it returns takes it back.
func (h *handshake) limit(d time.Duration) (stop func()) {
	if d == 0 {
		return func() {}
	}
	h.until = time.Now().Add(d)
	_ = h.conn.SetDeadline(h.until) // fails on a closed connection, as everything after it will
	return func() { _ = h.conn.SetDeadline(time.Time{}) }
}

func (h *handshake) asClient(config *ClientConfig) (*Login, error) {
	// The first packet needs no answer to be sent: it saves a round trip.
	h.outgoing = append(append(h.outgoing, h.versions[0]...), "\r\n"...)
	h.startKex()
	if err := h.flush(); err != nil {
		return nil, err
	}
	if err := h.readVersion(); err != nil {
		return nil, err
	}
	if err := h.keys(); err != nil {
		return nil, err
	}
	if err := h.authenticate(config); err != nil {
		return nil, err
	}
	return h.login(config.User), nil
}

func (h *handshake) asServer(config *ServerConfig) (*Login, *ssh.Permissions, error) {
	h.outgoing = append(append(h.outgoing, h.versions[1]...), "\r\n"...)
	if err := h.flush(); err != nil {
		return nil, nil, err
	}
	if err := h.readVersion(); err != nil {
		return nil, nil, err
	}
	if err := h.awaitHello(); err != nil {
		return nil, nil, err
	}
	h.startKex()
	if err := h.keys(); err != nil {
		return nil, nil, err
	}
	user, permissions, err := h.admit(config)
	if err != nil {
		return nil, nil, err
	}
	return h.login(user), permissions, nil
}

func (h *handshake) login(user string) *Login {
	return &Login{user, h.session, h.versions, h.conn.LocalAddr(), h.conn.RemoteAddr()}
}

// sayWhy tells the peer why there is no login, where the peer is at fault.
func (h *handshake) sayWhy(err error) error {
	var rules *protocolError
	if errors.As(err, &rules) {
		h.disconnect(reasonProtocol, rules.text)
		_ = h.conn.SetWriteDeadline(time.Now().Add(time.Second))
		_ = h.flush()
	}
	return err
}

// keys waits until the first exchange of keys is done.
func (h *handshake) keys() error {
	for h.transport.in.aead == nil {
		if err := h.flush(); err != nil {
			return err
		}
		p, err := h.next()
		if err != nil {
			return err
		}
		handled, err := h.receive(p)
		if err != nil {
			return err
		}
		if !handled {
			return broken("message %d before there are keys", p[0])
		}
	}
	return nil
}

// message is the next message that is none of the transport's. It is valid until the next call.
func (h *handshake) message() ([]byte, error) {
	for {
		if err := h.flush(); err != nil {
			return nil, err
		}
		p, err := h.next()
		if err != nil {
			return nil, err
		}
		handled, err := h.receive(p)
		if err != nil || !handled {
			return p, err
		}
	}
}

func (h *handshake) flush() error {
	if len(h.outgoing) == 0 {
		return nil
	}
	_, err := h.conn.Write(h.outgoing)
	h.outgoing = h.outgoing[:0]
	return err
}

// next is the next packet, valid until the next call.
func (h *handshake) next() ([]byte, error) {
	if h.peeked {
		h.peeked = false
		return h.peek, nil
	}
	if len(h.held) > heldMost {
		return nil, broken("it asks for ever more while keys are exchanged")
	}
	h.in = h.in[h.taken:]
	h.taken = 0
	for {
		p, size, err := h.transport.in.open(h.in)
		if err != nil {
			return nil, err
		}
		if size > 0 {
			h.taken = size
			return p, nil
		}
		if err := h.read(); err != nil {
			return nil, err
		}
	}
}

func (h *handshake) read() error {
	h.in = slices.Grow(h.in, readChunk)
	n, err := h.conn.Read(h.in[len(h.in):cap(h.in)])
	if h.seen != nil {
		h.seen = append(h.seen, h.in[len(h.in):len(h.in)+n]...)
	}
	h.in = h.in[:len(h.in)+n]
	if n > 0 {
		return nil
	}
	if err == nil || err == io.EOF {
		err = io.ErrUnexpectedEOF
		if len(h.in) == 0 && h.versions[0] == nil {
			err = io.EOF // who has said nothing was only looking whether somebody is here
		}
	}
	return err
}

// readVersion reads the peer's version. A server may say other lines before (RFC 4253, section 4.2).
func (h *handshake) readVersion() error {
	spoken := 0
	for {
		end := bytes.IndexByte(h.in, '\n')
		if end < 0 {
			if len(h.in) > maxVersion && (!h.client || len(h.in)+spoken > maxGreets) {
				return broken("it does not begin with a version")
			}
			if err := h.read(); err != nil {
				return err
			}
			continue
		}
		line := bytes.TrimSuffix(h.in[:end], []byte("\r"))
		mine := bytes.HasPrefix(line, []byte("SSH-"))
		if mine {
			if end >= maxVersion || bytes.IndexByte(line, 0) >= 0 {
				return broken("its version is too long")
			}
			if !bytes.HasPrefix(line, []byte("SSH-2.0-")) && !bytes.HasPrefix(line, []byte("SSH-1.99-")) {
				return fmt.Errorf("the SSH peer speaks %s, and not version 2", printable(string(line)))
			}
			theirs := 0
			if h.client {
				theirs = 1
			}
			h.versions[theirs] = bytes.Clone(line)
		}
		spoken += end + 1
		h.in = h.in[:copy(h.in, h.in[end+1:])]
		switch {
		case mine:
			return nil
		case !h.client || spoken > maxGreets:
			return broken("it does not begin with a version")
		}
	}
}
