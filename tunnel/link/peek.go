package link

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"slices"
	"strings"
)

// A First is what a visitor of the hub's port says first.
type First struct {
	TLS        bool     // else it speaks HTTP
	ServerName string   // of TLS or, without its port, of the request, in lower case; "" if it has named none
	Protocols  []string // of TLS: what it speaks (ALPN)
	Path       string   // of the request
}

// A Visitor is a connection to the hub's port that is not an agent's. What was read of it is read again.
type Visitor struct {
	net.Conn
	again  []byte // to be read once more
	seen   []byte // what was read, while it is recorded
	record bool   // also: what is written is dropped, since nobody knows yet who is to answer
}

var (
	errOther     = errors.New("the visitor is not an agent")
	errLongHello = errors.New("the ClientHello is too long")
	errNoise     = errors.New("neither TLS nor HTTP")
)

// maxHello is how long a ClientHello may be, with its records. Browsers send less than 3 KiB.
const maxHello = 16 << 10

func (v *Visitor) Read(b []byte) (int, error) {
	if v.record {
		if len(v.seen) >= maxHello {
			return 0, errLongHello
		}
		b = b[:min(len(b), maxHello-len(v.seen))]
	}
	var n int
	var err error
	if len(v.again) > 0 {
		n = copy(b, v.again)
		v.again = v.again[n:]
	} else {
		n, err = v.Conn.Read(b)
	}
	if v.record {
		v.seen = append(v.seen, b[:n]...)
	}
	return n, err
}

func (v *Visitor) Write(b []byte) (int, error) {
	if v.record {
		return len(b), nil
	}
	return v.Conn.Write(b)
}

// CloseWrite says that no more comes from here.
func (v *Visitor) CloseWrite() error {
	if c, ok := v.Conn.(interface{ CloseWrite() error }); ok {
		return c.CloseWrite()
	}
	return v.Conn.Close()
}

// Take hands over the socket, with what was read of it. The visitor is not to be used any more.
func (v *Visitor) Take() (c net.Conn, read []byte) {
	read, v.again = v.again, nil
	return v.Conn, read
}

// maxHead is how long the head of a request may be of which the name is looked for. Browsers send less than 4 KiB.
const maxHead = 16 << 10

// request is what the first request of a visitor says, of which a part was read. All can be read again. A request that is not to be
// understood names nobody.
func (v *Visitor) request() First {
	head := slices.Clone(v.again)
	for !bytes.Contains(head, []byte("\r\n\r\n")) && !bytes.Contains(head, []byte("\n\n")) && len(head) < maxHead {
		var b [4096]byte
		n, err := v.Conn.Read(b[:min(len(b), maxHead-len(head))])
		head = append(head, b[:n]...)
		if err != nil {
			break
		}
	}
	v.again = head
	return parseHead(head)
}

// parseHead is what the head of a request says.
func parseHead(head []byte) First {
	r, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(head)))
	if err != nil {
		return First{}
	}
	name := r.Host
	if host, _, err := net.SplitHostPort(name); err == nil {
		name = host
	}
	return First{ServerName: strings.ToLower(name), Path: r.URL.Path}
}

// peek finds out who has come. An agent is greeted: its handshake is done when peek returns. Of others, all can be read again, and the
// error is errOther.
func peek(ctx context.Context, v *Visitor, agents *tls.Config) (*tls.Conn, *holder, First, error) {
	var b [1]byte
	if _, err := v.Conn.Read(b[:]); err != nil {
		return nil, nil, First{}, err
	}
	v.again = b[:]
	switch {
	case 'A' <= b[0] && b[0] <= 'Z': // RFC 9110, section 9.1: methods that are in use are in upper case
		return nil, nil, v.request(), errOther
	case b[0] != 22: // RFC 8446, section 5.1: handshake
		return nil, nil, First{}, errNoise
	}
	first := First{TLS: true}
	v.record = true
	h := &holder{Conn: v}
	conn := tls.Server(h, &tls.Config{
		MinVersion: tls.VersionTLS13,
		GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
			first.ServerName = strings.ToLower(hello.ServerName)
			if !slices.ContainsFunc(protocols(), func(p string) bool { return slices.Contains(hello.SupportedProtos, p) }) {
				first.Protocols = slices.Clone(hello.SupportedProtos)
				return nil, errOther
			}
			v.record, v.seen = false, nil
			return agents, nil
		},
	})
	err := conn.HandshakeContext(ctx)
	if errors.Is(err, errOther) {
		v.again, v.seen, v.record = append(v.seen, v.again...), nil, false
	}
	return conn, h, first, err
}
