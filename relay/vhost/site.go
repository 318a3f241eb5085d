package vhost

import (
	"crypto/tls"
	"errors"
	"fmt"
	"html"
	"io"
	"net/http"
	"os"
	"slices"
	"strconv"
	"time"

	"github.com/fairlead-net/fairlead/forward"
)

const (
	maxPage = 1 << 20 // of a page of one's own
	// retryAfter is when a client may try again whose target is away.
	retryAfter = 10 * time.Second
)

// A Site is what is done for the clients of one forward.
type Site struct {
	conf      forward.Site
	ports     []uint16
	tls       *tls.Config  // nil: TLS passes through
	challenge http.Handler // of an authority, over HTTP; nil: none is asked
	logins    *Logins      // of AuthOIDC
	page      []byte       // shown while no target answers
}

// Plain is the site of a forward of which nothing is asked.
func Plain() *Site { return &Site{page: plainPage("")} }

// Keepers have what sites need from elsewhere; nil where there is no such thing.
type Keepers struct {
	Certs  *Certs
	Logins *Logins
}

// NewSite reads the files that f names.
func NewSite(f *forward.Forward, k Keepers) (*Site, error) {
	s := &Site{conf: f.Site, page: plainPage("")}
	for _, r := range f.Listen.Ports.Ranges {
		s.ports = append(s.ports, r.First)
	}
	if f.Site.AwayPage != "" {
		page, err := readPage(f.Site.AwayPage)
		if err != nil {
			return nil, fmt.Errorf("away_page: %w", err)
		}
		s.page = page
	}
	if f.Site.Auth == forward.AuthOIDC {
		if k.Logins == nil {
			return nil, errors.New("auth = \"oidc\" needs a place to keep a key: it is for the daemon")
		}
		if err := k.Logins.prepare(); err != nil {
			return nil, err
		}
		s.logins = k.Logins
	}
	switch f.Site.TLS {
	case forward.TLSFiles:
		pair, err := newPair(f.Site.Cert, f.Site.Key)
		if err != nil {
			return nil, fmt.Errorf("cert: %w", err)
		}
		s.tls = newConfig(pair.get, "h2", "http/1.1")
	case forward.TLSACME:
		if k.Certs == nil {
			return nil, errors.New("tls = \"acme\" needs a place to keep certificates: it is for the daemon")
		}
		s.tls = newConfig(k.Certs.get(f.Hosts), "h2", "http/1.1", protoACME)
		s.challenge = k.Certs.challenge()
	}
	return s, nil
}

// EndsTLS reports whether TLS ends here.
func (s *Site) EndsTLS() bool { return s.tls != nil }

func (s *Site) mustRedirect() bool {
	return s.conf.RedirectHTTPS || s.conf.Auth != forward.AuthNone // no password goes in clear
}

func (s *Site) takesLogin() bool { return s.conf.Auth != forward.AuthNone }

// securePort is where a client finds TLS who came to called.
func (s *Site) securePort(called uint16) uint16 {
	if called == 80 || slices.Contains(s.ports, 443) { // that of 80 may be another forward's: an agent has one for each
		return 443
	}
	return called
}

// away answers for targets that do not.
func (s *Site) away(w http.ResponseWriter, status int) {
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Cache-Control", "no-store")
	h.Set("Retry-After", strconv.Itoa(int(retryAfter/time.Second)))
	h.Set("Content-Length", strconv.Itoa(len(s.page)))
	w.WriteHeader(status)
	_, _ = w.Write(s.page)
}

// plainPage is the page of those who have none of their own.
func plainPage(name string) []byte {
	if name == "" {
		name = "This site"
	}
	return fmt.Appendf(nil, `<!DOCTYPE html>
<html lang="en"><meta charset="utf-8"><title>Away</title>
<body style="font-family:sans-serif;max-width:40em;margin:4em auto">
<h1>%s is away</h1>
<p>The server behind this address does not answer at the moment. Please try again in a little while.</p>
</body></html>
`, html.EscapeString(name))
}

func readPage(path string) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	page, err := io.ReadAll(io.LimitReader(file, maxPage+1))
	if err == nil && len(page) > maxPage {
		err = fmt.Errorf("%s is larger than %d kB", path, maxPage>>10)
	}
	return page, err
}

func newConfig(get func(*tls.ClientHelloInfo) (*tls.Certificate, error), protos ...string) *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: protos, GetCertificate: get}
}
