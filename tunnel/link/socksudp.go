package link

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/quic-go/quic-go"

	"github.com/fairlead-net/fairlead/tunnel"
)

// socksMost is how long a datagram from a proxy may be, with its header: QUIC's are shorter than an Ethernet frame.
const socksMost = 2048

// A relayed is a UDP socket whose datagrams a SOCKS proxy passes on to the hub (RFC 1928, section 7). It ends with the connection by which the
// proxy was asked for that.
type relayed struct {
	udp    *net.UDPConn // connected to the proxy, so that nobody else is heard
	asked  net.Conn
	header []byte // of what goes to the hub
	buf    [socksMost]byte
	watch  sync.WaitGroup
	once   sync.Once
	out    sync.Pool
}

// associate asks a SOCKS proxy to pass datagrams on to addr, which is host:port. The name is the proxy's to look up.
func (p *proxy) associate(ctx context.Context, d *Dialer, addr string) (*relayed, error) {
	header, err := appendSocksAddr([]byte{0, 0, 0}, addr)
	if err != nil {
		return nil, err
	}
	var at netip.AddrPort
	c, _, err := p.talkTo(ctx, d.dialTCP, func(c net.Conn) error {
		if err := p.socksLogin(c); err != nil {
			return err
		}
		at, err = p.socksAsk(c, socksAssociate, "0.0.0.0:0") // from where, it sees when something comes
		return err
	})
	if err != nil {
		return nil, err
	}
	if at.Addr().IsUnspecified() { // where it was called
		at = netip.AddrPortFrom(addrPort(c.RemoteAddr()).Addr(), at.Port())
	}
	r := &relayed{asked: c, header: header}
	r.out.New = func() any { return new([]byte) }
	err = d.in(func() error {
		if !at.IsValid() || at.Port() == 0 {
			return errors.New("it does not say where it takes datagrams")
		}
		r.udp, err = net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(at))
		return err
	})
	if err != nil {
		_ = c.Close()
		return nil, fmt.Errorf("proxy %s: %w", p.addr, err)
	}
	r.watch.Go(func() {
		_, _ = io.Copy(io.Discard, c)
		_ = r.udp.Close()
	})
	return r, nil
}

// ReadFrom reads what the hub has sent. All is said to come from the proxy, whatever it calls the hub.
func (r *relayed) ReadFrom(b []byte) (int, net.Addr, error) {
	for {
		n, err := r.udp.Read(r.buf[:])
		if err != nil {
			return 0, nil, err
		}
		if payload, ok := socksPayload(r.buf[:n]); ok {
			return copy(b, payload), r.udp.RemoteAddr(), nil
		}
	}
}

// WriteTo sends to the hub.
func (r *relayed) WriteTo(b []byte, _ net.Addr) (int, error) {
	out := r.out.Get().(*[]byte)
	defer r.out.Put(out)
	*out = append(append((*out)[:0], r.header...), b...)
	n, err := r.udp.Write(*out)
	return max(n-len(r.header), 0), err
}

func (r *relayed) Close() (err error) {
	r.once.Do(func() {
		err = errors.Join(r.asked.Close(), r.udp.Close())
		r.watch.Wait()
	})
	return err
}

// SetReadBuffer and SetWriteBuffer are for QUIC, which has its own idea of how large they should be.
func (r *relayed) SetReadBuffer(n int) error          { return r.udp.SetReadBuffer(n) }
func (r *relayed) SetWriteBuffer(n int) error         { return r.udp.SetWriteBuffer(n) }
func (r *relayed) LocalAddr() net.Addr                { return r.udp.LocalAddr() }
func (r *relayed) SetDeadline(t time.Time) error      { return r.udp.SetDeadline(t) }
func (r *relayed) SetReadDeadline(t time.Time) error  { return r.udp.SetReadDeadline(t) }
func (r *relayed) SetWriteDeadline(t time.Time) error { return r.udp.SetWriteDeadline(t) }

// socksPayload is what a proxy passes on in a datagram. Fragments, which nobody sends, are dropped.
func socksPayload(b []byte) ([]byte, bool) {
	if len(b) < 5 || b[2] != 0 {
		return nil, false
	}
	head := 3 + 1 + 2
	switch b[3] {
	case socksIPv4:
		head += 4
	case socksIPv6:
		head += 16
	case socksName:
		head += 1 + int(b[4])
	default:
		return nil, false
	}
	if len(b) < head {
		return nil, false
	}
	return b[head:], true
}

// quicThrough makes a link by QUIC by way of a SOCKS proxy. It does not survive a change of this host's address: the proxy knows the agent by its
// connection.
func (d *Dialer) quicThrough(ctx context.Context, p *proxy, addr string) (tunnel.Link, error) {
	r, err := p.associate(ctx, d, addr)
	if err != nil {
		return nil, err
	}
	s := &quicSocket{r, &quic.Transport{Conn: r, ConnectionIDLength: quicIDLength}}
	link, err := d.handshake(ctx, s, r.udp.RemoteAddr(), addr)
	if err != nil {
		return nil, err
	}
	link.silence.watch()
	return link, nil
}
