package link

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"math/big"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/quic-go/quic-go"
)

func TestWrongKey(t *testing.T) {
	for _, transport := range tested {
		t.Run(transport, func(t *testing.T) {
			leaks(t)
			b := hub(t, nil)
			other := identity(t).Key()
			d := dialer(t, b, func(o *DialOptions) { o.Transports, o.Key = []string{transport}, other })
			_, err := d.Dial(t.Context())
			var wrong *WrongKeyError
			if !errors.As(err, &wrong) || wrong.Want != other || wrong.Got != b.Identity.Key() {
				t.Errorf("the error is %v", err)
			}
			if _, err := d.Redial(t.Context(), nil); !errors.As(err, &wrong) {
				t.Errorf("Redial: %v", err)
			}
		})
	}
}

// nobody fails the test if the hub takes somebody for an agent.
func nobody(t *testing.T, b *bench) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var wait sync.WaitGroup
	wait.Go(func() {
		if l, err := b.Accept(ctx); err == nil {
			t.Errorf("an agent came by %s: %v", l.Transport(), l.Peer())
			l.Close()
		}
	})
	t.Cleanup(func() {
		cancel()
		wait.Wait()
		b.stop()
		b.empty(t)
	})
}

// empty waits until nobody is counted.
func (b *bench) empty(t *testing.T) {
	t.Helper()
	var waiting, sources int
	for range 500 {
		b.gate.mu.Lock()
		waiting, sources = b.gate.all.n, len(b.gate.all.parts)
		b.gate.mu.Unlock()
		if waiting == 0 && sources == 0 {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Errorf("%d are still counted, of %d sources", waiting, sources)
}

// ecdsaCertificate is a certificate with a key of another kind.
func ecdsaCertificate(t *testing.T) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	shape := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, shape, shape, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// TestNotAnAgent: those who do not show an Ed25519 key, or speak something else, do not get in.
func TestNotAnAgent(t *testing.T) {
	mine := identity(t)
	stolen := mine.cert // the certificate of another, whose private key is not there
	stolen.PrivateKey = identity(t).cert.PrivateKey
	for _, c := range []struct {
		name   string
		change func(*tls.Config)
	}{
		{"no certificate", func(c *tls.Config) { c.Certificates = nil }},
		{"a key of another kind", func(c *tls.Config) { c.Certificates = []tls.Certificate{ecdsaCertificate(t)} }},
		{"a stolen certificate", func(c *tls.Config) { c.Certificates = []tls.Certificate{stolen} }},
		{"TLS 1.2", func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS12, tls.VersionTLS12 }},
		{"another protocol", func(c *tls.Config) { c.NextProtos = []string{"h2", "fairlead/99"} }},
		{"no protocol", func(c *tls.Config) { c.NextProtos = nil }},
	} {
		t.Run(c.name, func(t *testing.T) {
			leaks(t)
			b := hub(t, nil)
			nobody(t, b)
			config := commonTLS(mine)
			config.InsecureSkipVerify = true
			c.change(config)
			conn, err := tls.Dial("tcp", b.addr, config)
			if err == nil { // in TLS 1.3 a client hears of its certificate later
				conn.SetDeadline(time.Now().Add(10 * time.Second))
				if len(config.NextProtos) == 0 { // it speaks HTTP with them
					io.WriteString(conn, "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
					text, _ := io.ReadAll(conn)
					if !bytes.HasPrefix(text, []byte("HTTP/1.1 404 ")) {
						t.Errorf("the hub answers %q", text)
					}
				} else if _, err = conn.Read(make([]byte, 1)); err == nil || timeout(err) {
					t.Errorf("the hub goes on: %v", err)
				}
				conn.Close()
			}
			if config.MaxVersion == tls.VersionTLS12 || len(config.NextProtos) == 0 {
				return // which quic-go refuses by itself
			}
			q, err := quic.DialAddr(t.Context(), b.addr, config, quicConfig())
			if err == nil {
				select {
				case <-q.Context().Done():
				case <-time.After(10 * time.Second):
					t.Error("the hub goes on by QUIC")
				}
				q.CloseWithError(0, "")
			}
		})
	}
}

// recorded is what an agent says in a handshake that works, with one frame after it.
func recorded(t *testing.T, b *bench) []byte {
	t.Helper()
	c, err := net.Dial("tcp", b.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	r := &recorder{Conn: c}
	conn := tls.Client(r, agentTLS(identity(t), b.Identity.Key()))
	if err := conn.Handshake(); err != nil {
		t.Fatal(err)
	}
	conn.Write([]byte("hello"))
	l, err := b.Accept(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	return r.said
}

type recorder struct {
	net.Conn
	said []byte
}

func (r *recorder) Write(p []byte) (int, error) {
	r.said = append(r.said, p...)
	return r.Conn.Write(p)
}

// TestReplay: who says again what an agent has said, or the beginning of it, is nobody.
func TestReplay(t *testing.T) {
	leaks(t)
	b := hub(t, nil)
	said := recorded(t, b)
	nobody(t, b)
	var wait sync.WaitGroup
	for n := 0; n <= len(said); n += 1 + n/8 {
		wait.Go(func() {
			c, err := net.Dial("tcp", b.addr)
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			c.SetDeadline(time.Now().Add(8 * time.Second))
			c.Write(said[:n])
			c.(*net.TCPConn).CloseWrite()
			io.Copy(io.Discard, c) // until the hub hangs up
		})
	}
	c, err := net.Dial("tcp", b.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(8 * time.Second))
	c.Write(said)
	if _, err := io.Copy(io.Discard, c); timeout(err) {
		t.Error("the hub goes on with a handshake that was replayed")
	}
	wait.Wait()
}

// TestNoTickets: there is nothing by which a handshake could be shortened, or repeated.
func TestNoTickets(t *testing.T) {
	for _, transport := range tested {
		t.Run(transport, func(t *testing.T) {
			leaks(t)
			b := hub(t, nil)
			d := dialer(t, b, func(o *DialOptions) { o.Transports = []string{transport} })
			cache := &noTickets{t: t}
			d.tls.ClientSessionCache = cache
			for range 2 {
				agent, err := d.Dial(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				hubEnd, err := b.Accept(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				a, h := lanes(t, agent, hubEnd)
				say(t, h, "whatever comes after the handshake")
				hear(t, a, "whatever comes after the handshake")
				agent.Close()
				hubEnd.Close()
			}
		})
	}
}

type noTickets struct{ t *testing.T }

func (n *noTickets) Get(string) (*tls.ClientSessionState, bool) { return nil, false }
func (n *noTickets) Put(_ string, s *tls.ClientSessionState) {
	if s != nil {
		n.t.Error("the hub gave a ticket")
	}
}

// TestFlood: many connections that say nothing, too little or nonsense do not keep an agent out, wherever they come from.
func TestFlood(t *testing.T) {
	leaks(t)
	b := hub(t, nil)
	b.gate.mu.Lock()
	b.gate.most, b.gate.mostPerSource = 24, 12
	b.gate.mu.Unlock()
	says := []string{"", "\x16\x03\x01", "\x16\x03\x01\x40\x00" + string(make([]byte, 100)), "GET / HTTP/1.1\r\n", "\x16\x03\x01\x01\x00\x01\x00\x00\xfc\x03\x03"}
	flood, stop := context.WithCancel(t.Context())
	var wait sync.WaitGroup
	for source := range 6 {
		wait.Go(func() {
			d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 1, byte(source+1))}}
			var open []net.Conn
			for i := 0; flood.Err() == nil; i++ {
				if c, err := d.DialContext(flood, "tcp", b.addr); err == nil {
					io.WriteString(c, says[i%len(says)])
					open = append(open, c)
				}
				if len(open) > 200 {
					open[0].Close()
					open = open[1:]
				}
				time.Sleep(time.Millisecond)
			}
			for _, c := range open {
				c.Close()
			}
		})
	}
	for full := false; !full; time.Sleep(time.Millisecond) {
		b.gate.mu.Lock()
		full = b.gate.all.n >= b.gate.most
		b.gate.mu.Unlock()
	}
	for _, transport := range tested {
		d := dialer(t, b, func(o *DialOptions) { o.Transports = []string{transport} })
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		agent, err := d.Redial(ctx, nil)
		if err != nil {
			t.Errorf("%s: an agent is kept out: %v", transport, err)
			cancel()
			continue
		}
		if l, err := b.Accept(ctx); err == nil {
			l.Close()
		} else {
			t.Errorf("%s: the hub has no link of it: %v", transport, err)
		}
		agent.Close()
		cancel()
	}
	stop()
	wait.Wait()
}

// TestListenerEnds: Run returns while visitors are in the middle of what they say.
func TestListenerEnds(t *testing.T) {
	leaks(t)
	b := hub(t, nil)
	for _, text := range []string{"", "\x16", "GET", "GET /.well-known/fairlead HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" +
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"} {
		c, err := net.Dial("tcp", b.addr)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		io.WriteString(c, text)
	}
	for entered := 0; entered < 4; time.Sleep(time.Millisecond) {
		b.gate.mu.Lock()
		entered = b.gate.all.n
		b.gate.mu.Unlock()
	}
	b.stop()
	if _, err := b.Accept(t.Context()); !errors.Is(err, errEnded) {
		t.Errorf("Accept: %v", err)
	}
}
