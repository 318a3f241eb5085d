package vhost

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"sync"
	"time"

	"golang.org/x/crypto/acme"
	"golang.org/x/crypto/acme/autocert"
)

const (
	// firstTry and lastTry are between tries for a certificate that is not to be had, each wait twice as long as the one before:
	// authorities count those who fail.
	firstTry = 30 * time.Second
	lastTry  = time.Hour
	// lookAgain is how often certificates are looked at that are there; renewing them is autocert's, once it has seen them.
	lookAgain = time.Hour
)

// An ACME says which authority issues certificates (RFC 8555). The zero value is Let's Encrypt.
type ACME struct {
	Email     string // for the authority's word of trouble; "" is none
	Directory string // URL; "" is Let's Encrypt's
	CA        string // a file of PEM with what the directory's own certificate is checked by; "": as every program of this host does
}

// Certs are the certificates that are had by ACME. They and the account's key are in one directory, for the daemon's eyes only.
type Certs struct {
	dir  string
	log  *slog.Logger
	kick chan struct{}     // capacity 1
	via  http.RoundTripper // to authorities; nil: the network

	mu      sync.Mutex
	conf    ACME
	manager *autocert.Manager
	broken  error           // of conf
	byHTTP  bool            // somebody answers the authority over HTTP
	want    []string        // names to have certificates for
	state   map[string]*try // of want
	closed  bool
	stop    context.CancelFunc // ends what the manager asks the authority
}

// A try is how far the certificate for one name is.
type try struct {
	err      error     // nil: it is there, or nobody has asked yet
	ends     time.Time // of one that is there, when it should have been renewed long ago; else zero
	next     time.Time
	failures int
}

// NewCerts returns the certificates in a directory, which is made when it is needed.
func NewCerts(dir string, log *slog.Logger) *Certs {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	c := &Certs{dir: dir, log: log, kick: make(chan struct{}, 1), state: map[string]*try{}}
	c.manage(ACME{})
	return c
}

// Settle changes the authority.
func (c *Certs) Settle(conf ACME) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if conf == c.conf {
		return
	}
	c.stop()
	c.manage(conf)
	clear(c.state)
	c.wake()
}

// manage makes the manager for conf. The caller holds c.mu, or has c alone.
func (c *Certs) manage(conf ACME) {
	ctx, cancel := context.WithCancel(context.Background())
	c.conf, c.stop = conf, cancel
	network := http.DefaultTransport.(*http.Transport).Clone()
	network.DisableKeepAlives = true // it is asked once in a while
	network.TLSClientConfig, c.broken = trust(conf.CA)
	via := c.via
	if via == nil {
		via = network
	}
	client := &acme.Client{
		DirectoryURL: conf.Directory, UserAgent: "fairlead",
		HTTPClient: &http.Client{Transport: &ending{via, ctx}, Timeout: time.Minute},
	}
	if client.DirectoryURL == "" {
		client.DirectoryURL = acme.LetsEncryptURL
	}
	c.manager = &autocert.Manager{
		Prompt: autocert.AcceptTOS, Cache: autocert.DirCache(c.dir), Email: conf.Email, Client: client,
		// Who comes this far has called a name of a forward whose certificates are had by ACME.
		HostPolicy: func(context.Context, string) error { return nil },
	}
	if c.byHTTP {
		c.answers()
	}
	if c.closed {
		c.stop()
	}
}

// answers is what answers the authority of the manager that there is now. Once there is one, the manager asks to be called over HTTP, too. The caller
// holds c.mu.
func (c *Certs) answers() http.Handler {
	return c.manager.HTTPHandler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		refuse(w, http.StatusNotFound, errors.New("no authority has asked for this"))
	}))
}

func (c *Certs) wake() {
	select {
	case c.kick <- struct{}{}:
	default:
	}
}

func (c *Certs) current() *autocert.Manager {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.manager
}

var errNotOurs = errors.New("no certificate is had for this name")

// get is what crypto/tls asks for certificates, for some names and no others.
func (c *Certs) get(hosts []string) func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	return func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
		if !slices.Contains(hosts, hello.ServerName) {
			return nil, errNotOurs
		}
		failed := c.failed(hello.ServerName)
		asks := len(hello.SupportedProtos) == 1 && hello.SupportedProtos[0] == protoACME // RFC 8737, section 3: the authority
		if failed != nil && !asks {
			return nil, failed // Run tries again when that is due; a client is no reason to try before
		}
		return c.current().GetCertificate(modern(hello))
	}
}

// failed is why there is no certificate for a name; nil if there is one, or nobody has asked.
func (c *Certs) failed(name string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s := c.state[name]; s != nil {
		return s.err
	}
	return nil
}

// modern is hello with a cipher suite by which autocert knows who takes ECDSA. The suites of TLS 1.3 do not say that, so it would have another
// certificate issued, with RSA, for who speaks nothing older.
func modern(hello *tls.ClientHelloInfo) *tls.ClientHelloInfo {
	if !slices.Contains(hello.SupportedVersions, tls.VersionTLS13) {
		return hello
	}
	more := *hello
	more.SupportedCurves = nil // nor are the curves of keys those of certificates there
	more.CipherSuites = append(slices.Clip(hello.CipherSuites), tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256)
	return &more
}

// challenge answers an authority over HTTP.
func (c *Certs) challenge() http.Handler {
	handler := func() http.Handler {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.byHTTP = true
		return c.answers()
	}
	handler() // before the authority is asked for anything
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { handler().ServeHTTP(w, r) })
}

// Want says for which names there are to be certificates. Those that are missing are asked for before a client does.
func (c *Certs) Want(names []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if slices.Equal(names, c.want) {
		return
	}
	c.want = slices.Clone(names)
	renewed := false
	for name, s := range c.state {
		if !slices.Contains(names, name) {
			delete(c.state, name)
			renewed = renewed || s.err == nil
		}
	}
	if renewed { // autocert would do that for ever, and fail once the name leads elsewhere, which authorities count
		c.stop()
		c.manage(c.conf)
	}
	c.wake()
}

// Note says what is wrong with the certificate for one of some names, or "".
func (c *Certs) Note(names []string) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, name := range names {
		switch s := c.state[name]; {
		case s == nil:
		case s.err != nil:
			return fmt.Sprintf("no certificate for %s: %v", name, s.err)
		case !s.ends.IsZero():
			return fmt.Sprintf("the certificate for %s ends on %s, and no other is to be had: is the authority there, and does the name still lead here?",
				name, s.ends.UTC().Format(time.RFC1123))
		}
	}
	return ""
}

// Run gets certificates, and gets them again where that has failed, until ctx ends.
func (c *Certs) Run(ctx context.Context) error {
	defer context.AfterFunc(ctx, c.close)()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			c.close()
			return nil
		case <-c.kick:
		case <-timer.C:
		}
		timer.Reset(c.obtain(ctx))
	}
}

func (c *Certs) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	c.stop()
}

// obtain looks after every name that it is time for, and says when to do so again.
func (c *Certs) obtain(ctx context.Context) time.Duration {
	c.mu.Lock()
	want, manager := c.want, c.manager
	c.mu.Unlock()
	wait := lookAgain
	for _, name := range want {
		c.mu.Lock()
		s := c.state[name]
		if s == nil {
			s = &try{}
			c.state[name] = s
		}
		left, broken := time.Until(s.next), c.broken
		c.mu.Unlock()
		if left > 0 {
			wait = min(wait, left)
			continue
		}
		if ctx.Err() != nil {
			return wait
		}
		var cert *tls.Certificate
		err := broken
		if err == nil {
			cert, err = manager.GetCertificate(&tls.ClientHelloInfo{
				ServerName: name, SignatureSchemes: []tls.SignatureScheme{tls.ECDSAWithP256AndSHA256}, CipherSuites: []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256},
				SupportedVersions: []uint16{tls.VersionTLS13}, SupportedCurves: []tls.CurveID{tls.CurveP256},
			})
		}
		wait = min(wait, c.outcome(ctx, manager, s, name, cert, err))
	}
	return wait
}

// outcome notes what came of a try, and says when the next one is due.
func (c *Certs) outcome(ctx context.Context, manager *autocert.Manager, s *try, name string, cert *tls.Certificate, err error) time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err != nil && manager != c.manager { // which was stopped meanwhile, and that is why
		return 0
	}
	had, ends := s.err, s.ends
	s.err, s.ends = err, overdue(cert)
	wait := lookAgain
	switch {
	case ctx.Err() != nil:
	case err != nil:
		wait = min(firstTry<<min(s.failures, 10), lastTry)
		s.failures++
		c.log.Warn("a certificate is not to be had", "name", name, "err", err, "again", wait.String())
	case !s.ends.IsZero():
		if ends.IsZero() {
			c.log.Warn("a certificate is not renewed", "name", name, "ends", s.ends)
		}
	case had != nil || s.next.IsZero() || !ends.IsZero():
		s.failures = 0
		c.log.Info("a certificate is there", "name", name)
	}
	s.next = time.Now().Add(wait)
	return wait
}

// lateMost is how long before its end a certificate is late to be renewed at the most.
const lateMost = 15 * 24 * time.Hour

// overdue is when a certificate ends, if that is so near that half of the time to renew it in has passed in vain; else zero. autocert begins when a third of its
// life is left, or 30 days, and does not say that it fails.
func overdue(cert *tls.Certificate) time.Time {
	if cert == nil || cert.Leaf == nil || time.Until(cert.Leaf.NotAfter) > min(cert.Leaf.NotAfter.Sub(cert.Leaf.NotBefore)/6, lateMost) {
		return time.Time{}
	}
	return cert.Leaf.NotAfter
}
