// Package either is the head for two protocols on one port: the first byte of a client tells SOCKS from everything else,
// which is taken for HTTP. The heads for both are handed to it.
package either

import (
	"context"
	"fmt"
	"net"
	"slices"

	"github.com/fairlead-net/fairlead/relay/head"
)

// The first bytes of SOCKS, its versions. No method of HTTP begins with one, being letters.
const (
	socks4 = 4
	socks5 = 5
)

// aheadSize is how much is read to see the first byte; a request as a rule, so that the head for it need not read again.
const aheadSize = 1024

// A Head is a head.Head.
type Head struct{ socks, http head.Head }

// New returns a head that leaves clients to one of two.
func New(socks, http head.Head) *Head { return &Head{socks, http} }

// Serve reads what a client says first, and has the head serve that it is for.
func (h *Head) Serve(ctx context.Context, client net.Conn, env head.Env) (head.Outcome, error) {
	buf := make([]byte, aheadSize)
	n, err := client.Read(buf)
	if n == 0 {
		return head.Outcome{}, fmt.Errorf("the client said nothing: %w", err)
	}
	conn := &replayed{Conn: client, ahead: buf[:n]}
	chosen := h.http
	if buf[0] == socks4 || buf[0] == socks5 {
		chosen = h.socks
	}
	out, err := chosen.Serve(ctx, conn, env)
	// What the head did not read is still to come behind what it did.
	out.Ahead = slices.Concat(out.Ahead, conn.ahead)
	return out, err
}

// replayed is a connection on which what was read already comes again.
type replayed struct {
	net.Conn
	ahead []byte
}

func (r *replayed) Read(b []byte) (int, error) {
	if len(r.ahead) == 0 {
		return r.Conn.Read(b)
	}
	n := copy(b, r.ahead)
	r.ahead = r.ahead[n:]
	return n, nil
}

// CloseWrite ends what is sent to the client.
func (r *replayed) CloseWrite() error {
	if half, ok := r.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}
