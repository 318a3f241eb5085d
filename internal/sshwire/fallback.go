package sshwire

import (
	"bytes"
	"errors"
	"net"
	"os"
	"syscall"
	"time"
)

// awaitHello looks at the client's KEXINIT before anything but our version has been said. If there is nothing in common the
// error says so, and everything can still be left to another implementation.
func (h *handshake) awaitHello() error {
	soon := time.Now().Add(helloWait)
	if !h.until.IsZero() && h.until.Before(soon) {
		soon = h.until
	}
	_ = h.conn.SetReadDeadline(soon)
	p, err := h.next()
	_ = h.conn.SetReadDeadline(h.until)
	if errors.Is(err, os.ErrDeadlineExceeded) && (h.until.IsZero() || time.Now().Before(h.until)) {
		return &UnsupportedError{What: "to speak first to a client that waits"}
	}
	if err != nil {
		return err
	}
	if p[0] == msgKexInit {
		theirs, err := parseKexInit(p)
		if err != nil {
			return err
		}
		if _, err := h.agree(h.proposal(), theirs); err != nil {
			return err
		}
		if err := supported(); err != nil {
			return &UnsupportedError{What: "anything on this system", Agreed: true}
		}
	}
	h.seen = nil // there is no way back any more
	h.peek, h.peeked = p, true
	return nil
}

// A replayed connection gives what was read from it once more, and swallows the version that was sent already.
type replayed struct {
	net.Conn
	read  *bytes.Reader
	spare []byte // of what is written first
}

func newReplayed(conn net.Conn, seen []byte, version string) net.Conn {
	return &replayed{conn, bytes.NewReader(seen), []byte(version + "\r\n")}
}

func (c *replayed) Read(p []byte) (int, error) {
	if c.read.Len() > 0 {
		return c.read.Read(p)
	}
	return c.Conn.Read(p)
}

// SyscallConn is that of the connection below.
func (c *replayed) SyscallConn() (syscall.RawConn, error) {
	if raw, ok := c.Conn.(syscall.Conn); ok {
		return raw.SyscallConn()
	}
	return nil, errors.ErrUnsupported
}

// errOtherVersion is that the version is another one than the client has seen, so that the exchange would fail later.
var errOtherVersion = errors.New("the connection is to be continued with the ServerVersion that it began with")

func (c *replayed) Write(p []byte) (int, error) {
	n := min(len(p), len(c.spare))
	if !bytes.Equal(p[:n], c.spare[:n]) {
		return 0, errOtherVersion
	}
	c.spare = c.spare[n:]
	if n == len(p) {
		return n, nil
	}
	m, err := c.Conn.Write(p[n:])
	return n + m, err
}
