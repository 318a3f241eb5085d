package link

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/fairlead-net/fairlead/tunnel"
)

// The transports, the best first.
const (
	QUIC = "quic"
	TLS  = "tls"
	WSS  = "wss"
)

// Transports is all there are, the best first.
func Transports() []string { return []string{QUIC, TLS, WSS} }

// NoProxy as DialOptions.Proxy is that there is none, whatever the environment says.
const NoProxy = "none"

// DialOptions is what a Dialer is made of.
type DialOptions struct {
	Identity   *Identity
	Hub        []string // its addresses, host:port, the best first
	Key        tunnel.Key
	Transports []string            // which may be used; nil: all
	Proxy      string              // its URL; "": what the environment says; NoProxy
	Getenv     func(string) string // nil: os.Getenv
	Log        *slog.Logger        // nil: none
}

// A Dialer makes the links of an agent to its hub, and remembers which transports are of no use where it is. It is made with NewDialer, and its
// methods may be called from anywhere.
type Dialer struct {
	DialOptions
	tls   *tls.Config
	proxy *proxy // nil: see the environment
	net   net.Dialer
	in    func(func() error) error // makes sockets; in tests, in a network of their own
	pace  pace

	mu     sync.Mutex
	memory map[string]*memory // of each transport
	wrong  map[string]error   // with those that have failed since one worked; nil: none has
}

// NewDialer makes a dialer.
func NewDialer(o DialOptions) (*Dialer, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Getenv == nil {
		o.Getenv = os.Getenv
	}
	if len(o.Transports) == 0 {
		o.Transports = Transports()
	}
	for _, t := range o.Transports {
		if !slices.Contains(Transports(), t) {
			return nil, fmt.Errorf("%q is no transport; there are %s", t, strings.Join(Transports(), ", "))
		}
	}
	if len(o.Hub) == 0 {
		return nil, errors.New("the hub has no address")
	}
	for _, addr := range o.Hub {
		if _, _, err := net.SplitHostPort(addr); err != nil {
			return nil, fmt.Errorf("%q is no address of a hub, which is HOST:PORT", addr)
		}
	}
	if o.Key.IsZero() {
		return nil, errors.New("the hub's key is not known")
	}
	d := &Dialer{DialOptions: o, tls: agentTLS(o.Identity, o.Key), in: func(open func() error) error { return open() }, pace: usual(), memory: map[string]*memory{}}
	for _, t := range Transports() {
		d.memory[t] = &memory{}
	}
	if o.Proxy != "" && o.Proxy != NoProxy {
		p, err := parseProxy(o.Proxy)
		if err != nil {
			return nil, err
		}
		d.proxy = p
	}
	return d, nil
}

// When a transport starts, after a better one, and how long any of them may take.
const (
	tlsAfter     = 200 * time.Millisecond
	wssAfter     = 500 * time.Millisecond
	blockedAfter = 2 * time.Second        // one that was of no use lately
	nextAddress  = 250 * time.Millisecond // RFC 8305, section 5: Connection Attempt Delay
	dialTime     = 10 * time.Second
)

// Dial races the transports once, and returns the first link whose hub has shown its key. When that is not the hub's key, the error is a
// *WrongKeyError.
func (d *Dialer) Dial(ctx context.Context) (tunnel.Link, error) {
	now := time.Now()
	var order, late []string
	for _, t := range Transports() {
		switch {
		case !slices.Contains(d.Transports, t):
		case d.blocked(t, now):
			late = append(late, t)
		default:
			order = append(order, t)
		}
	}
	runners := make([]runner, 0, len(order)+len(late))
	starts := []time.Duration{0, tlsAfter, wssAfter}
	for i, t := range append(order, late...) {
		after := starts[i]
		if i >= len(order) && len(order) > 0 {
			after = blockedAfter
		}
		runners = append(runners, runner{after, func(ctx context.Context) (tunnel.Link, error) { return d.by(ctx, t) }})
	}
	order = append(order, late...)
	winner, all := race(ctx, runners)
	if winner < 0 {
		if err := ctx.Err(); err != nil {
			return nil, errors.Join(err, failure(order, all))
		}
		return nil, failure(order, all)
	}
	for i, o := range all {
		switch {
		case i == winner:
			d.worked(order[i])
		case o.ran > 0 && runners[i].after < runners[winner].after: // it failed, or lost in spite of its start
			d.failed(order[i], time.Now())
		}
	}
	return all[winner].link, nil
}

// failure says why there is no link. What is wrong with a key is all there is to say.
func failure(names []string, all []outcome) error {
	var text []error
	for i, o := range all {
		var wrong *WrongKeyError
		switch {
		case errors.As(o.err, &wrong):
			return wrong
		case o.err != nil && !errors.Is(o.err, context.Canceled):
			text = append(text, fmt.Errorf("%s: %w", names[i], o.err))
		}
	}
	if len(text) == 0 {
		return errors.New("no transport was tried")
	}
	return &FailedError{text}
}

// A FailedError is that no transport reached the hub.
type FailedError struct{ Each []error }

func (e *FailedError) Error() string {
	text := make([]string, len(e.Each))
	for i, err := range e.Each {
		text[i] = err.Error()
	}
	return "the hub was not reached: " + strings.Join(text, "; ")
}

func (e *FailedError) Unwrap() []error { return e.Each }

// by makes a link by one transport.
func (d *Dialer) by(ctx context.Context, transport string) (tunnel.Link, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTime)
	defer cancel()
	var runners []runner
	for i, addr := range d.Hub {
		runners = append(runners, runner{time.Duration(i) * nextAddress, func(ctx context.Context) (tunnel.Link, error) {
			switch transport {
			case TLS:
				return d.dialTLS(ctx, addr)
			case WSS:
				return d.dialWSS(ctx, addr)
			default:
				return d.dialQUIC(ctx, addr)
			}
		}})
	}
	winner, all := race(ctx, runners)
	if winner >= 0 {
		d.note(transport, nil)
		return all[winner].link, nil
	}
	for _, o := range all {
		if o.err != nil {
			d.note(transport, o.err)
			return nil, o.err
		}
	}
	return nil, ctx.Err()
}

// note remembers what is wrong with a transport, until one works.
func (d *Dialer) note(transport string, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err == nil {
		clear(d.wrong)
	} else if !errors.Is(err, context.Canceled) {
		if d.wrong == nil {
			d.wrong = map[string]error{}
		}
		d.wrong[transport] = err
	}
}

// Trouble is what is wrong with the transports that have failed since one worked, while others may still be tried; nil: nothing.
func (d *Dialer) Trouble() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	var each []error
	for _, t := range Transports() {
		if err := d.wrong[t]; err != nil {
			each = append(each, fmt.Errorf("%s: %w", t, err))
		}
	}
	if len(each) == 0 {
		return nil
	}
	return &FailedError{each}
}

// connect makes a TCP connection to an address of the hub, through a proxy if there is one. net.Dialer tries IPv6 and IPv4 as RFC 8305 has it.
func (d *Dialer) connect(ctx context.Context, addr string) (net.Conn, *net.TCPConn, error) {
	p, err := d.proxyFor(addr)
	if err != nil {
		return nil, nil, err
	}
	var c net.Conn
	var tcp *net.TCPConn
	if p != nil {
		c, tcp, err = p.dial(ctx, d.dialTCP, addr)
	} else {
		c, err = d.dialTCP(ctx, addr)
		tcp, _ = c.(*net.TCPConn)
	}
	if err != nil {
		return nil, nil, err
	}
	if tcp != nil {
		tune(tcp)
	}
	return c, tcp, nil
}

func (d *Dialer) dialTCP(ctx context.Context, addr string) (c net.Conn, err error) {
	err = d.in(func() error {
		c, err = d.net.DialContext(ctx, "tcp", addr)
		return err
	})
	return c, err
}

func (d *Dialer) proxyFor(addr string) (*proxy, error) {
	switch {
	case d.proxy != nil:
		return d.proxy, nil
	case d.Proxy == NoProxy:
		return nil, nil
	}
	return environment(d.Getenv, addr)
}

func (d *Dialer) dialTLS(ctx context.Context, addr string) (tunnel.Link, error) {
	c, tcp, err := d.connect(ctx, addr)
	if err != nil {
		return nil, err
	}
	l, err := d.inner(ctx, TLS, c, tcp)
	if err != nil {
		return nil, err
	}
	l.sides = d.sides(l.conn.ConnectionState(), l.peer, addr)
	return l, nil
}

func (d *Dialer) dialWSS(ctx context.Context, addr string) (tunnel.Link, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	beneath, tcp, err := d.connect(ctx, addr)
	if err != nil {
		return nil, err
	}
	defer context.AfterFunc(ctx, func() { beneath.Close() })()
	c := beneath
	if port != "80" { // who carries the link is not trusted, so nothing is checked
		c = tls.Client(c, &tls.Config{ServerName: host, InsecureSkipVerify: true, NextProtos: []string{"http/1.1"}, MinVersion: tls.VersionTLS12})
	}
	m, err := webSocket(ctx, c, addr)
	if err != nil {
		c.Close()
		return nil, err
	}
	return d.inner(ctx, WSS, m, tcp)
}

// inner does the handshake of a link on a connection.
func (d *Dialer) inner(ctx context.Context, transport string, c net.Conn, tcp *net.TCPConn) (*oneLane, error) {
	r, err := handshake(ctx, d.tls, c, tcp)
	if err != nil {
		return nil, err
	}
	link, err := newOneLane(transport, r.conn, r.beneath, tcp, true)
	if err != nil {
		c.Close()
		return nil, err
	}
	return link, nil
}
