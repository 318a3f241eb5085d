package vhost

import (
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
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fairlead-net/fairlead/forward"
)

// A testFront has sites by name. Every target notes what it was asked, and fails the test when that was for another site.
type testFront struct {
	t     testing.TB
	sites map[string]*Site

	mu     sync.Mutex
	visits map[string]*testVisit
	asked  []string
}

type testVisit struct {
	front *testFront
	name  string
	site  *Site
}

func (f *testFront) Client() netip.AddrPort { return netip.MustParseAddrPort("192.0.2.7:4711") }

func (f *testFront) Visit(host string) (Visit, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	site := f.sites[host]
	if site == nil {
		return nil, ErrNoSite
	}
	if f.visits == nil {
		f.visits = map[string]*testVisit{}
	}
	if f.visits[host] == nil {
		f.visits[host] = &testVisit{f, host, site}
	}
	return f.visits[host], nil
}

func (v *testVisit) Site() *Site { return v.site }

func (v *testVisit) Login(context.Context, string, string) error { return errors.New("nobody") }

// Dial connects to a target that is this test.
func (v *testVisit) Dial(context.Context) (net.Conn, error) {
	near, far := net.Pipe()
	porch := newPorch()
	server := &http.Server{ErrorLog: NewServer().silent, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if forward.NameCalled(r.Host) != v.name {
			v.front.t.Errorf("the target of %q was asked for %q", v.name, r.Host)
		}
		for name := range r.Header {
			if strings.HasPrefix(strings.ReplaceAll(name, "_", "-"), "X-Forwarded-") && strings.Contains(name, "_") {
				v.front.t.Errorf("%s came through", name)
			}
		}
		if got := r.Header.Values("X-Forwarded-For"); len(got) != 1 || got[0] != "192.0.2.7" {
			v.front.t.Errorf("X-Forwarded-For: %q", got)
		}
		for _, c := range r.Cookies() {
			if strings.HasPrefix(c.Name, cookiePrefix) {
				v.front.t.Errorf("our cookie came through: %s", c.Name)
			}
		}
		v.front.mu.Lock()
		v.front.asked = append(v.front.asked, r.Host+r.RequestURI)
		v.front.mu.Unlock()
		_, _ = io.Copy(io.Discard, r.Body)
		for name := range r.Trailer {
			if plain := strings.ReplaceAll(name, "_", "-"); strings.HasPrefix(plain, "X-Forwarded-") || plain == "Forwarded" {
				v.front.t.Errorf("%s came through behind the body", name)
			}
		}
		w.Header().Set("X-Trailer", r.Trailer.Get("X-Sum"))
		w.Header().Set("X-User", r.Header.Get("X-Forwarded-User"))
		w.Header().Set("X-Upgrade", strings.Join([]string{r.Header.Get("Upgrade"), r.Header.Get("Connection"), r.Header.Get("Http2-Settings")}, "|"))
		w.Header().Set("X-Cookies", r.Header.Get("Cookie"))
		_, _ = io.WriteString(w, v.name)
	})}
	go server.Serve(porch)
	go func() {
		c := newConn(far, nil, netip.AddrPort{})
		porch.enter(c)
		<-c.closed
		server.Close()
		porch.Close()
	}()
	return near, nil
}

// ownPair is a certificate for names, which is its own authority.
func ownPair(t testing.TB, names ...string) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: names, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(leaf)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pool
}

// serveFor runs a server until the test ends.
func serveFor(t testing.TB) *Server {
	s := NewServer()
	done := make(chan struct{})
	go func() { defer close(done); s.Run() }()
	t.Cleanup(func() { s.Close(); <-done })
	return s
}
