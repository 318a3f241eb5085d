package sshnode

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/ssh"
)

// A handshake is the way from a stream of bytes to a connection that is logged in. It has to be over in time; while somebody
// is being asked, the clock stands.
type handshake struct {
	n    *Node
	r    *Resolved
	conn net.Conn
	key  error // of the host key, as the callback returned it
	auth *login

	mu      sync.Mutex
	clock   *time.Timer
	expired atomic.Bool
}

// clientVersion is how a node names itself.
const clientVersion = "SSH-2.0-Fairlead"

func newHandshake(n *Node, r *Resolved, conn net.Conn) *handshake {
	return &handshake{n: n, r: r, conn: conn}
}

// begin starts the clock.
func (h *handshake) begin() {
	h.clock = time.AfterFunc(h.r.ConnectTimeout, func() {
		h.expired.Store(true)
		_ = h.conn.Close()
	})
}

func (h *handshake) banner(text string) { h.n.log.Debug("the SSH server says", "banner", clean(text)) }

func (h *handshake) run(ctx context.Context) (*ssh.Client, error) {
	h.begin()
	defer h.pause()
	keys, err := loadHostKeys(h.r)
	if err != nil {
		return nil, &configError{err}
	}
	h.auth = newLogin(ctx, h)
	defer h.auth.close()
	supported := ssh.SupportedAlgorithms()
	config := &ssh.ClientConfig{
		User:              h.r.User,
		HostKeyCallback:   func(_ string, _ net.Addr, key ssh.PublicKey) error { return h.checkHostKey(ctx, keys, key) },
		HostKeyAlgorithms: keys.algorithms(h.r.HostKeyAlgorithms),
		AuthCallback:      h.auth.next,
		BannerCallback:    func(text string) error { h.banner(text); return nil },
		ClientVersion:     clientVersion,
	}
	for _, list := range []struct {
		name        string
		to          *[]string
		asked, know []string
	}{
		{"Ciphers", &config.Ciphers, h.r.Ciphers, supported.Ciphers},
		{"KexAlgorithms", &config.KeyExchanges, h.r.KexAlgorithms, supported.KeyExchanges},
		{"MACs", &config.MACs, h.r.MACs, supported.MACs},
		{"HostKeyAlgorithms", &config.HostKeyAlgorithms, config.HostKeyAlgorithms, supported.HostKeys},
	} {
		if *list.to, err = choose(list.name, list.asked, list.know); err != nil {
			return nil, &configError{err}
		}
	}
	c, channels, requests, err := ssh.NewClientConn(h.conn, h.r.address(), config)
	if err == nil {
		h.auth.succeeded()
		return ssh.NewClient(c, channels, requests), nil
	}
	return nil, h.explain(err)
}

// choose is those of asked that are known, or all that are known.
func choose(name string, asked, known []string) ([]string, error) {
	if len(asked) == 0 {
		return known, nil
	}
	list := slices.DeleteFunc(slices.Clone(asked), func(s string) bool { return !slices.Contains(known, s) })
	if len(list) == 0 {
		return nil, fmt.Errorf("%s: none of %s is known here; there are %s", name, strings.Join(asked, ", "), strings.Join(known, ", "))
	}
	return list, nil
}

// explain says which part of a handshake failed.
func (h *handshake) explain(err error) error {
	addr := h.r.address()
	switch {
	case h.expired.Load():
		return fmt.Errorf("%s: no SSH server answered in %s", addr, h.r.ConnectTimeout)
	case h.key != nil:
		return h.key
	case h.auth.started() && !brokenOff(err):
		return h.auth.explain(err)
	case h.auth.started():
		return fmt.Errorf("%s: the connection broke while logging in: %w", addr, err)
	}
	return fmt.Errorf("%s: %w", addr, err)
}

// brokenOff reports whether an error is one of the connection rather than of what was said over it.
func brokenOff(err error) bool {
	var network net.Error
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.As(err, &network)
}

// pause stops the clock.
func (h *handshake) pause() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.clock.Stop()
}

// proceed starts it anew.
func (h *handshake) proceed() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.clock.Reset(h.r.ConnectTimeout)
}

// errNobody is that a question has nobody to be put to.
var errNobody = errors.New("there is nobody to ask")

// ask puts a question while the clock stands.
func (h *handshake) ask(ctx context.Context, prompt string, echo bool) (string, error) {
	ask := h.n.askOne()
	if ask == nil || h.r.BatchMode {
		return "", errNobody
	}
	h.pause()
	defer h.proceed()
	return ask(ctx, prompt, echo)
}
