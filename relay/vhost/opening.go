package vhost

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"time"

	"github.com/fairlead-net/fairlead/forward"
)

const (
	// maxOpening is how much of a client is read to find whom it calls. A ClientHello with post-quantum key shares has about
	// 2 kB, and may come in several segments and records.
	maxOpening = 16 << 10
	// openingTime is how long a client has for that.
	openingTime = 10 * time.Second

	recordHandshake = 22 // RFC 8446, section 5.1
	maxMethod       = 32 // letters of a method of HTTP; the longest that is registered has 17
	protoACME       = "acme-tls/1"
)

// A Protocol is what a client speaks, as far as its first bytes tell.
type Protocol uint8

// The protocols.
const (
	Other Protocol = iota
	TLS
	HTTP
)

// An Opening is what a client has said first.
type Opening struct {
	Protocol Protocol
	Host     string // of TLS: the name called, as forward.NameCalled has it; "": none
	ACME     bool   // of TLS: an authority asks whether the name is ours (RFC 8737)
	Said     []byte // all that was read, which is still to be carried
}

// ErrOpening is a client that has not said whom it calls within the bounds.
var ErrOpening = errors.New("the client has not said whom it calls")

// Open reads from conn until it is known what the client speaks and, of TLS, whom it calls. Nothing is written.
func Open(conn net.Conn) (Opening, error) {
	if err := conn.SetReadDeadline(time.Now().Add(openingTime)); err != nil {
		return Opening{}, err
	}
	o, err := readOpening(conn)
	if err != nil {
		return o, err
	}
	return o, conn.SetReadDeadline(time.Time{})
}

func readOpening(r io.Reader) (Opening, error) {
	t := &tap{from: r}
	for {
		switch p, known := guess(t.said); {
		case !known:
			if err := t.more(); err != nil {
				return Opening{Said: t.said}, fmt.Errorf("%w: %w", ErrOpening, err)
			}
		case p == TLS:
			return t.hello()
		default:
			return Opening{Protocol: p, Said: t.said}, nil
		}
	}
}

// guess tells the protocols apart by a method of HTTP, or the type of a record of TLS.
func guess(said []byte) (p Protocol, known bool) {
	if len(said) == 0 {
		return Other, false
	}
	if said[0] == recordHandshake {
		return TLS, true
	}
	for i, c := range said {
		switch {
		case c == ' ' && i > 0:
			return HTTP, true
		case i == maxMethod, (c < 'A' || c > 'Z') && (c != '-' || i == 0):
			return Other, true
		}
	}
	return Other, false
}

// A tap keeps what was read, and reads no more than maxOpening.
type tap struct {
	from io.Reader
	said []byte
	read int // of said, by whoever reads the tap
}

func (t *tap) more() error {
	if len(t.said) == maxOpening {
		return fmt.Errorf("it says more than %d bytes", maxOpening)
	}
	const step = 2048
	t.said = slices.Grow(t.said, min(step, maxOpening-len(t.said)))
	n, err := t.from.Read(t.said[len(t.said):min(len(t.said)+step, maxOpening)])
	t.said = t.said[:len(t.said)+n]
	if n > 0 {
		return nil
	}
	if err == nil {
		err = io.ErrNoProgress
	}
	return err
}

// hello has crypto/tls read the ClientHello, and leaves it at that.
func (t *tap) hello() (Opening, error) {
	o := Opening{Protocol: TLS}
	var read bool
	errEnough := errors.New("that is all that was asked")
	server := tls.Server(&listening{tap: t}, &tls.Config{
		MinVersion: tls.VersionTLS10, // of others, what is too old for the target is for the target to say
		GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
			read = true
			o.Host = forward.NameCalled(hello.ServerName)
			o.ACME = slices.Contains(hello.SupportedProtos, protoACME)
			return nil, errEnough
		},
	})
	err := server.HandshakeContext(context.Background())
	o.Said = t.said
	if !read {
		return o, fmt.Errorf("%w: %w", ErrOpening, err)
	}
	return o, nil
}

// listening is the connection that crypto/tls believes to have; what it says goes nowhere.
type listening struct{ *tap }

func (l *listening) Read(b []byte) (int, error) {
	if l.read == len(l.said) {
		if err := l.more(); err != nil {
			return 0, err
		}
	}
	n := copy(b, l.said[l.read:])
	l.read += n
	return n, nil
}

func (*listening) Write(b []byte) (int, error)      { return len(b), nil }
func (*listening) Close() error                     { return nil }
func (*listening) LocalAddr() net.Addr              { return nil }
func (*listening) RemoteAddr() net.Addr             { return nil }
func (*listening) SetDeadline(time.Time) error      { return nil }
func (*listening) SetReadDeadline(time.Time) error  { return nil }
func (*listening) SetWriteDeadline(time.Time) error { return nil }

// Unrecognized is what a client of TLS is told whose name leads nowhere: an alert, fatal, unrecognized_name (RFC 8446, section 6.2).
func Unrecognized() []byte { return []byte{21, 3, 3, 0, 2, 2, 112} }
