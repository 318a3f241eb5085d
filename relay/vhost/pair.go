package vhost

import (
	"crypto/tls"
	"os"
	"sync"
	"time"
)

// pairTime is how often files are looked at for a certificate that was renewed.
const pairTime = 10 * time.Second

// A pair is a certificate and its key in two files, read again when they change. Files that cannot be read leave what there was.
type pair struct {
	cert, key string

	mu      sync.Mutex
	loaded  *tls.Certificate
	changed [2]time.Time
	looked  time.Time
}

func newPair(cert, key string) (*pair, error) {
	p := &pair{cert: cert, key: key}
	p.changed, p.looked = p.times(), time.Now()
	loaded, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		return nil, err
	}
	p.loaded = &loaded
	return p, nil
}

func (p *pair) times() (at [2]time.Time) {
	for i, path := range []string{p.cert, p.key} {
		if info, err := os.Stat(path); err == nil {
			at[i] = info.ModTime()
		}
	}
	return at
}

func (p *pair) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if now := time.Now(); now.Sub(p.looked) > pairTime {
		p.looked = now
		if at := p.times(); at != p.changed {
			if loaded, err := tls.LoadX509KeyPair(p.cert, p.key); err == nil {
				p.loaded, p.changed = &loaded, at
			}
		}
	}
	return p.loaded, nil
}
