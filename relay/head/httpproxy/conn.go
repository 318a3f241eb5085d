package httpproxy

import (
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fairlead-net/fairlead/relay/head"
)

// A conn is the client's connection as net/http sees it. It is not net/http's to close, and until the client was let in it
// has to be so within headerWait, whatever deadlines net/http sets for one request.
type conn struct {
	net.Conn
	env   head.Env
	limit time.Time

	in, out atomic.Int64 // bytes that were not counted yet
	counts  atomic.Bool  // they are the head's to count
	any     atomic.Bool  // the client has said something
	letIn   atomic.Bool
	closed  atomic.Bool
}

func newConn(client net.Conn, env head.Env) *conn {
	return &conn{Conn: client, env: env, limit: time.Now().Add(headerWait)}
}

func (c *conn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if n > 0 {
		c.any.Store(true)
		c.in.Add(int64(n))
		c.count()
	}
	return n, err
}

func (c *conn) Write(b []byte) (int, error) {
	if c.closed.Load() {
		return 0, net.ErrClosed
	}
	n, err := c.Conn.Write(b)
	c.out.Add(int64(n))
	c.count()
	return n, err
}

// heard reports whether the client has said anything.
func (c *conn) heard() bool { return c.any.Load() }

// carry has everything counted from now on, and what there was before. What goes through a tunnel is not for the head to
// count.
func (c *conn) carry() {
	c.counts.Store(true)
	c.count()
}

func (c *conn) count() {
	if !c.counts.Load() {
		return
	}
	if in, out := c.in.Swap(0), c.out.Swap(0); in != 0 || out != 0 {
		c.env.Count(int(in), int(out))
	}
}

// settle lets the client in.
func (c *conn) settle() {
	if !c.letIn.Swap(true) {
		c.env.Settled()
	}
}

func (c *conn) SetReadDeadline(t time.Time) error {
	if !c.letIn.Load() && (t.IsZero() || t.After(c.limit)) {
		t = c.limit
	}
	return c.Conn.SetReadDeadline(t)
}

func (c *conn) SetDeadline(t time.Time) error {
	if err := c.Conn.SetWriteDeadline(t); err != nil {
		return err
	}
	return c.SetReadDeadline(t)
}

// CloseWrite ends what is sent to the client; net/http does so to have its last words arrive.
func (c *conn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}

// Close ends whatever is being read or written, and leaves the connection to its owner.
func (c *conn) Close() error {
	if c.closed.Swap(true) {
		return nil
	}
	return c.Conn.SetDeadline(time.Unix(1, 0))
}

// A listener has one connection to accept, and says that there are no more when that one is served.
type listener struct {
	conn   net.Conn
	given  bool // by Accept, which runs in one goroutine
	served chan struct{}
	closed chan struct{}
	closes sync.Once
}

func (l *listener) Accept() (net.Conn, error) {
	if !l.given {
		l.given = true
		return l.conn, nil
	}
	select {
	case <-l.served:
	case <-l.closed:
	}
	return nil, io.EOF
}

func (l *listener) Close() error   { l.closes.Do(func() { close(l.closed) }); return nil }
func (l *listener) Addr() net.Addr { return l.conn.LocalAddr() }
