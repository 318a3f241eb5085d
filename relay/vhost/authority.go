package vhost

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/http"
	"os"
)

// trust is the configuration of TLS towards the authority.
func trust(file string) (*tls.Config, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if file == "" {
		return config, nil
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return config, fmt.Errorf("ca: %w", err)
	}
	config.RootCAs = x509.NewCertPool()
	if !config.RootCAs.AppendCertsFromPEM(data) {
		return config, fmt.Errorf("ca: %s has no certificate in PEM", file)
	}
	return config, nil
}

// ending is a transport whose requests end with a context, because autocert asks with contexts of its own.
type ending struct {
	http.RoundTripper
	ctx context.Context //nolint:containedctx // it is what the type is for
}

func (e *ending) RoundTrip(r *http.Request) (*http.Response, error) {
	if err := e.ctx.Err(); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(r.Context())
	stop := context.AfterFunc(e.ctx, cancel)
	res, err := e.RoundTripper.RoundTrip(r.WithContext(ctx))
	if err != nil {
		stop()
		cancel()
		return nil, err
	}
	res.Body = &endingBody{res.Body, func() { stop(); cancel() }}
	return res, nil
}

type endingBody struct {
	body interface {
		Read(b []byte) (int, error)
		Close() error
	}
	done func()
}

func (b *endingBody) Read(p []byte) (int, error) { return b.body.Read(p) }

func (b *endingBody) Close() error {
	defer b.done()
	return b.body.Close()
}
