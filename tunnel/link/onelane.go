package link

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fairlead-net/fairlead/tunnel"
)

// errClosed is that this end closed the link.
var errClosed = errors.New("this end closed the link")

// A oneLane is a link whose transport has one lane: a TLS connection, over TCP or in a WebSocket.
type oneLane struct {
	*sides    // nil: there can be none
	transport string
	conn      *tls.Conn
	beneath   *holder
	tcp       *net.TCPConn // nil: unknown
	peer      tunnel.Key
	remote    netip.AddrPort
	agent     bool        // this end is the agent's, which opens the lane
	taken     atomic.Bool // the lane was
	admit     func()      // nil, or to be called when the hub has something to say, or the link has ended: it knows who came

	once sync.Once
	done chan struct{}
	err  error // before done is closed
}

var _ tunnel.Link = (*oneLane)(nil)

// newOneLane makes a link of a connection whose handshake is over.
func newOneLane(transport string, conn *tls.Conn, beneath *holder, tcp *net.TCPConn, agent bool) (*oneLane, error) {
	peer, err := peerKey(conn.ConnectionState())
	if err != nil {
		return nil, err
	}
	beneath.holdOn()
	if err := conn.SetDeadline(time.Time{}); err != nil {
		return nil, err
	}
	return &oneLane{
		transport: transport, conn: conn, beneath: beneath, tcp: tcp,
		peer: peer, remote: addrPort(conn.RemoteAddr()), agent: agent, done: make(chan struct{}),
	}, nil
}

func (l *oneLane) Transport() string      { return l.transport }
func (l *oneLane) Peer() tunnel.Key       { return l.peer }
func (l *oneLane) Remote() netip.AddrPort { return l.remote }
func (l *oneLane) Done() <-chan struct{}  { return l.done }

func (l *oneLane) Open(context.Context) (tunnel.Lane, error) {
	select {
	case <-l.done:
		return nil, l.err
	default:
	}
	if !l.agent || l.taken.Swap(true) {
		return nil, tunnel.ErrOneLane
	}
	return lane{l}, nil
}

func (l *oneLane) Accept(ctx context.Context) (tunnel.Lane, error) {
	select {
	case <-l.done:
		return nil, l.err
	default:
	}
	if !l.agent && !l.taken.Swap(true) {
		return lane{l}, nil
	}
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-l.done:
		return nil, l.err
	}
}

func (l *oneLane) Datagram([]byte) error        { return errors.ErrUnsupported }
func (l *oneLane) Datagrams(func([]byte)) error { return errors.ErrUnsupported }

// Detour is that of tunnel.Sider: it would be another TLS connection.
func (l *oneLane) Detour(context.Context) (tunnel.Lane, error) { return nil, tunnel.ErrOneLane }

func (l *oneLane) RTT() time.Duration {
	if l.tcp == nil {
		return 0
	}
	return tcpRTT(l.tcp)
}

func (l *oneLane) Err() error {
	select {
	case <-l.done:
		return l.err
	default:
		return nil
	}
}

func (l *oneLane) Close() error {
	l.end(errClosed)
	return nil
}

// end ends the link. TLS says no goodbye: frames tell where they end, and a goodbye would wait for those that stand before it.
func (l *oneLane) end(why error) {
	l.once.Do(func() {
		l.err = why
		l.sides.end()
		l.beneath.Close()
		close(l.done)
		if l.admit != nil {
			l.admit()
		}
	})
}

// records are a TLS connection and what is beneath it.
type records struct {
	conn    *tls.Conn
	beneath *holder
}

// handshake is an agent's, which closes c where it fails. Only a socket is read ahead.
func handshake(ctx context.Context, with *tls.Config, c net.Conn, tcp *net.TCPConn) (*records, error) {
	r := &records{beneath: &holder{Conn: c}}
	r.conn = tls.Client(r.beneath, with)
	if err := r.conn.HandshakeContext(ctx); err != nil {
		c.Close()
		return nil, err
	}
	if _, ok := c.(*net.TCPConn); ok {
		r.beneath.readAhead(tcp)
	}
	return r, nil
}

// Read reads what has come, of several records what fits: TLS by itself returns one of 16 KiB at a time.
func (r *records) Read(p []byte) (int, error) {
	n, err := r.conn.Read(p)
	if err == nil {
		n += r.beneath.rest(r.conn, p[n:])
	}
	return n, err
}

func (r *records) Write(p []byte) (int, error) { return r.conn.Write(p) }

// lane is the lane of a oneLane.
type lane struct{ *oneLane }

func (l lane) Read(p []byte) (int, error) {
	n, err := (&records{l.conn, l.beneath}).Read(p)
	if err != nil && !temporary(err) {
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			err = io.EOF
		}
		l.end(ended(err))
	}
	return n, err
}

func (l lane) Write(p []byte) (int, error) {
	n, err := l.conn.Write(p)
	if err != nil {
		l.end(ended(err))
	}
	return n, err
}

func (l lane) Flush() error {
	if l.admit != nil {
		l.admit()
	}
	err := l.beneath.flush()
	if err != nil {
		l.end(ended(err))
	}
	return err
}

func (l lane) SetReadDeadline(t time.Time) error  { return l.conn.SetReadDeadline(t) }
func (l lane) SetWriteDeadline(t time.Time) error { return l.conn.SetWriteDeadline(t) }

// temporary reports whether a connection can be read again after err: a deadline has passed. What the kernel calls a timeout (ETIMEDOUT) is the
// end, although net says of both that they are timeouts.
func temporary(err error) bool { return errors.Is(err, os.ErrDeadlineExceeded) }

// ended says why a link ended that err came from.
func ended(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return errPeerClosed
	}
	return err
}

// errPeerClosed is that the other end closed the link.
var errPeerClosed = errors.New("the other end closed the link")

// addrPort is an address of the net package as numbers; zero if it has none.
func addrPort(a net.Addr) netip.AddrPort {
	switch a := a.(type) {
	case *net.TCPAddr:
		return netip.AddrPortFrom(a.AddrPort().Addr().Unmap(), a.AddrPort().Port())
	case *net.UDPAddr:
		return netip.AddrPortFrom(a.AddrPort().Addr().Unmap(), a.AddrPort().Port())
	case nil:
		return netip.AddrPort{}
	}
	ap, _ := netip.ParseAddrPort(a.String())
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}
