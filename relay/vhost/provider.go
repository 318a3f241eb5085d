package vhost

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"
)

const (
	providerTime  = 10 * time.Second // for one question to the provider
	maxProvider   = 1 << 20          // of an answer, in bytes
	maxExchanges  = 16               // logins that are looked up at once
	providerRetry = 5 * time.Second  // after a failure to find the provider
)

// An OIDC is a provider of OpenID Connect, and who this program is there. The zero value is none.
type OIDC struct {
	Issuer       string // URL
	ClientID     string
	ClientSecret string
	CA           string // a file of PEM with what the provider's certificate is checked by; "": as every program of this host does
}

// Logins has people log in at a provider. What they bring back is kept in cookies that are sealed with a key in a file.
type Logins struct {
	file string
	busy chan struct{} // holds one for each login that is looked up

	finding  sync.Mutex // of the provider: one asks for all, and who is logged in does not wait. It comes before mu
	mu       sync.Mutex
	conf     OIDC
	seal     *sealer
	provider *oidc.Provider // nil: not found yet
	client   *http.Client
	failed   error // to find it, the last time
	again    time.Time
}

// NewLogins returns logins whose key is in a file, which is made when it is needed.
func NewLogins(file string) *Logins {
	return &Logins{file: file, busy: make(chan struct{}, maxExchanges)}
}

// Settle changes the provider.
func (l *Logins) Settle(conf OIDC) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if conf != l.conf {
		l.conf, l.provider, l.client, l.failed, l.again = conf, nil, nil, nil, time.Time{}
	}
}

// prepare makes sure that people could log in.
func (l *Logins) prepare() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.conf.Issuer == "" {
		return errors.New("auth = \"oidc\" needs a provider, and there is no [oidc]")
	}
	if l.seal == nil {
		seal, err := loadSealer(l.file)
		if err != nil {
			return err
		}
		l.seal = seal
	}
	return nil
}

// cookies is what seals them; prepare has been called.
func (l *Logins) cookies() *sealer {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.seal
}

// A desk is where people log in for one site.
type desk struct {
	oauth2.Config
	verifier *oidc.IDTokenVerifier
	client   *http.Client
}

// desk finds the provider, once.
func (l *Logins) desk(ctx context.Context, callback string) (*desk, error) {
	if err := l.find(ctx); err != nil {
		return nil, fmt.Errorf("the provider of logins: %w", err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.provider == nil {
		return nil, errProviderChanged
	}
	return &desk{
		Config: oauth2.Config{
			ClientID: l.conf.ClientID, ClientSecret: l.conf.ClientSecret, Endpoint: l.provider.Endpoint(), RedirectURL: callback,
			Scopes: []string{oidc.ScopeOpenID, "email"},
		},
		verifier: l.provider.Verifier(&oidc.Config{ClientID: l.conf.ClientID}),
		client:   l.client,
	}, nil
}

// errProviderChanged is that the settings changed under a login.
var errProviderChanged = errors.New("there is another provider of logins now; try again")

// find sees to it that the provider is known. After a failure nobody is asked for a while.
func (l *Logins) find(ctx context.Context) error {
	l.finding.Lock()
	defer l.finding.Unlock()
	l.mu.Lock()
	conf, known, failed, again := l.conf, l.provider != nil, l.failed, l.again
	l.mu.Unlock()
	switch {
	case known:
		return nil
	case time.Now().Before(again):
		return failed
	}
	provider, client, err := discover(ctx, conf)
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.conf != conf:
		return errProviderChanged
	case err != nil:
		l.failed, l.again = err, time.Now().Add(providerRetry)
		return err
	}
	l.provider, l.client = provider, client
	return nil
}

// discover asks the provider what it can do (OpenID Connect Discovery 1.0, section 4).
func discover(ctx context.Context, conf OIDC) (*oidc.Provider, *http.Client, error) {
	config, err := trust(conf.CA)
	if err != nil {
		return nil, nil, err
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.TLSClientConfig = config
	transport.DisableKeepAlives = true
	client := &http.Client{Transport: &bounded{transport}, Timeout: providerTime}
	ctx, cancel := context.WithTimeout(oidc.ClientContext(context.WithoutCancel(ctx), client), providerTime)
	defer cancel()
	provider, err := oidc.NewProvider(ctx, conf.Issuer)
	if err != nil {
		return nil, nil, err
	}
	for _, url := range []string{provider.Endpoint().AuthURL, provider.Endpoint().TokenURL} {
		if !strings.HasPrefix(url, "https://") {
			return nil, nil, fmt.Errorf("it sends people to %q, which is not https", url)
		}
	}
	return provider, client, nil
}

// bounded is a transport whose answers have a bound.
type bounded struct{ http.RoundTripper }

func (b *bounded) RoundTrip(r *http.Request) (*http.Response, error) {
	res, err := b.RoundTripper.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	res.Body = struct {
		io.Reader
		io.Closer
	}{io.LimitReader(res.Body, maxProvider), res.Body}
	return res, nil
}

// whois exchanges what somebody has brought back for an address of mail that the provider has verified.
func (l *Logins) whois(ctx context.Context, d *desk, code, verifier, nonce string) (email string, err error) {
	select {
	case l.busy <- struct{}{}:
		defer func() { <-l.busy }()
	default:
		return "", errors.New("too many people log in at once; try again")
	}
	ctx, cancel := context.WithTimeout(oidc.ClientContext(ctx, d.client), providerTime)
	defer cancel()
	token, err := d.Exchange(ctx, code, oauth2.VerifierOption(verifier))
	if err != nil {
		return "", err
	}
	raw, ok := token.Extra("id_token").(string)
	if !ok {
		return "", errors.New("the provider gave no ID token")
	}
	id, err := d.verifier.Verify(ctx, raw)
	if err != nil {
		return "", err
	}
	if !same(id.Nonce, nonce) {
		return "", errors.New("the ID token is for another login")
	}
	var claims struct {
		Email    string `json:"email"`
		Verified bool   `json:"email_verified"`
	}
	if err := id.Claims(&claims); err != nil {
		return "", err
	}
	if claims.Email == "" || !claims.Verified {
		return "", errors.New("the provider has not verified an address of mail")
	}
	return claims.Email, nil
}
