package link

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/quic-go/quic-go"

	"github.com/fairlead-net/fairlead/tunnel"
)

// What is said to quic-go. Sessions have windows of their own and read whatever comes, so these need not be smaller than what a fast and
// long path holds.
const (
	quicStream   = 8 << 20  // the most bytes of one lane that nobody has read yet
	quicConn     = 16 << 20 // and of all of them
	quicLanes    = 1 << 8   // the most lanes that the other end may have opened: the highest one named has quic-go make all below it, for strangers, too
	quicIdle     = 15 * time.Second
	quicAlive    = 5 * time.Second // so that NAT remembers; idle mappings of UDP go after 30 s in many a router
	quicIDLength = 8
)

func quicConfig() *quic.Config {
	return &quic.Config{
		Versions:                       []quic.Version{quic.Version1},
		HandshakeIdleTimeout:           handshakeTime / 2, // quic-go gives a handshake twice that
		MaxIdleTimeout:                 quicIdle,
		KeepAlivePeriod:                quicAlive,
		InitialStreamReceiveWindow:     64 << 10, // what is read has it grow,
		MaxStreamReceiveWindow:         quicStream,
		InitialConnectionReceiveWindow: 128 << 10,
		MaxConnectionReceiveWindow:     quicConn,
		MaxIncomingStreams:             quicLanes,
		MaxIncomingUniStreams:          -1,
		EnableDatagrams:                true,
	}
}

// A roamer is a UDP socket that is sometimes without a network: what cannot be sent is lost like any packet, and no reason to end a connection.
type roamer struct {
	*net.UDPConn
	established atomic.Bool // before that, an error is welcome: another transport has its turn
}

func (r *roamer) WriteMsgUDP(b, oob []byte, to *net.UDPAddr) (int, int, error) {
	n, oobn, err := r.UDPConn.WriteMsgUDP(b, oob, to)
	if err != nil && r.established.Load() && unreachable(err) {
		return len(b), len(oob), nil
	}
	return n, oobn, err
}

func (r *roamer) WriteTo(b []byte, to net.Addr) (int, error) {
	n, err := r.UDPConn.WriteTo(b, to)
	if err != nil && r.established.Load() && unreachable(err) {
		return len(b), nil
	}
	return n, err
}

func unreachable(err error) bool {
	for _, e := range []error{syscall.ENETUNREACH, syscall.EHOSTUNREACH, syscall.ENETDOWN, syscall.EHOSTDOWN, syscall.EADDRNOTAVAIL, syscall.EPERM, syscall.ENOBUFS} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// acceptQUIC takes agents by QUIC, until the socket fails.
func (l *Listener) acceptQUIC(ctx context.Context, socket net.PacketConn) error {
	if udp, ok := socket.(*net.UDPConn); ok {
		r := &roamer{UDPConn: udp}
		r.established.Store(true)
		socket = r
	}
	reset, token := quic.StatelessResetKey(l.derive("quic stateless reset")), quic.TokenGeneratorKey(l.derive("quic token"))
	transport := &quic.Transport{
		Conn:               socket,
		ConnectionIDLength: quicIDLength,
		StatelessResetKey:  &reset, // of the key, so that agents learn of a hub that was restarted when they next say something
		TokenGeneratorKey:  &token,
		VerifySourceAddress: func(net.Addr) bool { // costs them a round trip, and those who lie about their address everything
			return l.gate.busy()
		},
		ConnContext: func(ctx context.Context, from *quic.ClientInfo) (context.Context, error) {
			ctx, cancel := context.WithCancel(ctx)
			guest := l.gate.enter(addrPort(from.RemoteAddr).Addr(), cancel)
			if guest == nil {
				cancel()
				return nil, errFull
			}
			context.AfterFunc(ctx, func() {
				guest.leave()
				cancel()
			})
			return context.WithValue(ctx, guestKey{}, guest), nil
		},
	}
	defer socket.Close()
	defer transport.Close()
	var there quicConns
	defer there.close() // the transport tells nobody that it is closed
	listener, err := transport.Listen(l.agents, l.quicConfig())
	if err != nil {
		return err
	}
	defer context.AfterFunc(ctx, func() { listener.Close() })()
	for {
		conn, err := listener.Accept(ctx)
		if err != nil {
			return err
		}
		there.add(conn)
		peer, err := peerKey(conn.ConnectionState().TLS)
		if err != nil || !l.join() {
			_ = conn.CloseWithError(0, "")
			continue
		}
		var admit func()
		protocol := conn.ConnectionState().TLS.NegotiatedProtocol
		if g, ok := conn.Context().Value(guestKey{}).(*guest); ok && protocol != measureALPN {
			admit = sync.OnceFunc(g.leave)
		}
		var beside *sides
		if protocol == ALPN {
			beside = l.besides.make(conn.ConnectionState().TLS, peer)
		}
		link := newQUICLink(conn, peer, nil, beside, admit)
		link.silence.watch()
		go func() {
			defer l.guests.Done()
			ctx, cancel := context.WithTimeout(ctx, handshakeTime)
			defer cancel()
			l.hand(ctx, link, protocol)
		}()
	}
}

// quicConfig is how agents are spoken to that come. Who is evicted from the gate during the handshake of QUIC is not counted any more, and stays until its
// time is over: while there are many, that is as long as an honest handshake may take.
func (l *Listener) quicConfig() *quic.Config {
	usual, hasty := quicConfig(), quicConfig()
	hasty.HandshakeIdleTimeout = patience
	usual.GetConfigForClient = func(*quic.ClientInfo) (*quic.Config, error) {
		if l.gate.busy() {
			return hasty, nil
		}
		return usual, nil
	}
	return usual
}

// quicConns are the connections of a listener that there are.
type quicConns struct {
	mu  sync.Mutex
	all map[*quic.Conn]struct{}
}

func (q *quicConns) add(conn *quic.Conn) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.all == nil {
		q.all = map[*quic.Conn]struct{}{}
	}
	q.all[conn] = struct{}{}
	context.AfterFunc(conn.Context(), func() {
		q.mu.Lock()
		defer q.mu.Unlock()
		delete(q.all, conn)
	})
}

// close tells all of them that it is over, so that agents need not find out.
func (q *quicConns) close() {
	var told sync.WaitGroup
	q.mu.Lock()
	for conn := range q.all {
		told.Go(func() { _ = conn.CloseWithError(0, "") }) // it returns when that is said
	}
	q.mu.Unlock()
	told.Wait()
}

var errFull = errors.New("too many handshakes")

// guestKey is where the context of a QUIC connection has its guest.
type guestKey struct{}

// derive makes a secret for one use from the hub's key.
func (l *Listener) derive(use string) [32]byte {
	key, _ := l.Identity.cert.PrivateKey.(interface{ Seed() []byte })
	mac := hmac.New(sha256.New, key.Seed())
	mac.Write([]byte("fairlead " + use))
	return [32]byte(mac.Sum(nil))
}

// dialQUIC races the addresses of a name of the hub.
func (d *Dialer) dialQUIC(ctx context.Context, addr string) (tunnel.Link, error) {
	p, err := d.proxyFor(addr)
	if err != nil {
		return nil, err
	}
	switch {
	case p != nil && p.kind == "socks5":
		return d.quicThrough(ctx, p, addr)
	case p != nil:
		return nil, fmt.Errorf("QUIC does not go through the HTTP proxy %s", p.addr)
	}
	addrs, err := resolve(ctx, addr)
	if err != nil {
		return nil, err
	}
	var runners []runner
	for i, a := range addrs {
		runners = append(runners, runner{time.Duration(i) * nextAddress, func(ctx context.Context) (tunnel.Link, error) {
			return d.quicTo(ctx, a)
		}})
	}
	winner, all := race(ctx, runners)
	if winner >= 0 {
		return all[winner].link, nil
	}
	for _, o := range all {
		if o.err != nil {
			return nil, o.err
		}
	}
	return nil, ctx.Err()
}

// resolve is the addresses of host:port, those of IPv6 and IPv4 in turn (RFC 8305, section 4).
func resolve(ctx context.Context, addr string) ([]netip.AddrPort, error) {
	host, portText, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	port, err := strconv.ParseUint(portText, 10, 16)
	if err != nil {
		return nil, fmt.Errorf("%q is no port", portText)
	}
	ips, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return nil, err
	}
	var six, four, all []netip.AddrPort
	for _, ip := range ips {
		ip = ip.Unmap()
		if a := netip.AddrPortFrom(ip, uint16(port)); ip.Is6() {
			six = append(six, a)
		} else {
			four = append(four, a)
		}
	}
	for i := range max(len(six), len(four)) {
		if i < len(six) {
			all = append(all, six[i])
		}
		if i < len(four) {
			all = append(all, four[i])
		}
	}
	return all, nil
}

func (d *Dialer) quicTo(ctx context.Context, to netip.AddrPort) (tunnel.Link, error) {
	s, err := openSocket(to, d.in)
	if err != nil {
		return nil, err
	}
	link, err := d.handshake(ctx, s, net.UDPAddrFromAddrPort(to), to.String())
	if err != nil {
		return nil, err
	}
	s.establish()
	changed := watch(link.conn.Context(), &link.watching, d.in)
	go link.roam(changed, d.in)
	link.silence.knock = func() error { return knock(to, d.in) }
	link.silence.watch()
	return link, nil
}

// handshake makes a link on a socket, which is the link's, or closed. addr is the hub's, where lanes beside the link are dialled.
func (d *Dialer) handshake(ctx context.Context, s *quicSocket, to net.Addr, addr string) (*quicLink, error) {
	conn, err := s.transport.Dial(ctx, to, d.tls, quicConfig())
	if err != nil {
		s.close()
		return nil, tlsCause(err)
	}
	peer, err := peerKey(conn.ConnectionState().TLS)
	if err != nil {
		_ = conn.CloseWithError(0, "")
		s.close()
		return nil, err
	}
	return newQUICLink(conn, peer, s, d.sides(conn.ConnectionState().TLS, peer, addr), nil), nil
}

// tlsCause is the error that a handshake failed with, which quic-go has within its own.
func tlsCause(err error) error {
	var wrong *WrongKeyError
	if errors.As(err, &wrong) {
		return wrong
	}
	var cert *tls.CertificateVerificationError
	if errors.As(err, &cert) {
		return cert.Err
	}
	return err
}

// A quicSocket is a socket of an agent, for one link.
type quicSocket struct {
	socket    net.PacketConn // a *roamer, or a *relayed
	transport *quic.Transport
}

// establish is that there is a connection now.
func (s *quicSocket) establish() {
	if r, ok := s.socket.(*roamer); ok {
		r.established.Store(true)
	}
}

func openSocket(to netip.AddrPort, in func(func() error) error) (*quicSocket, error) {
	network := "udp4"
	if to.Addr().Is6() {
		network = "udp6"
	}
	var udp *net.UDPConn
	err := in(func() (err error) {
		udp, err = net.ListenUDP(network, nil) // no address: the kernel takes the one of the route, whatever that becomes
		return err
	})
	if err != nil {
		return nil, err
	}
	s := &roamer{UDPConn: udp}
	return &quicSocket{s, &quic.Transport{Conn: s, ConnectionIDLength: quicIDLength}}, nil
}

func (s *quicSocket) close() {
	s.transport.Close()
	s.socket.Close()
}
