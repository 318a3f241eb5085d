package sshnode

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/fairlead-net/fairlead/forward"
	"github.com/fairlead-net/fairlead/internal/sshchan"
	"github.com/fairlead-net/fairlead/internal/sshwire"
	"github.com/fairlead-net/fairlead/node"
)

var _ node.Leader = (*Node)(nil)

// connectFast has internal/sshwire speak the protocol. What that cannot is sshwire.ErrUnsupported.
func (n *Node) connectFast(ctx context.Context, r *Resolved) (wire, error) {
	if n.o.Sessions || n.plain.Load() || n.ssh.Jump != "" && n.ssh.Jump != forward.Host || len(r.ProxyJump) > 0 || r.ProxyCommand != "" || !r.fast() {
		return nil, sshwire.ErrUnsupported
	}
	raw, err := n.reach(ctx, r)
	if err != nil {
		return nil, err
	}
	tcp, ok := raw.(*net.TCPConn)
	if !ok {
		_ = raw.Close()
		return nil, sshwire.ErrUnsupported
	}
	h := newHandshake(n, r, tcp)
	stop := context.AfterFunc(ctx, func() { _ = tcp.Close() })
	defer stop()
	conn, err := h.runFast(ctx, tcp)
	if err != nil {
		_ = tcp.Close()
		if errors.As(err, new(*sshwire.UnsupportedError)) {
			n.plain.Store(true) // it will have nothing else the next time
		}
		return nil, err
	}
	w := &fastWire{conn: conn}
	w.ctx, w.stop = context.WithCancel(context.WithoutCancel(ctx))
	return w, nil
}

// fast reports whether what the settings ask for leaves something that sshwire speaks.
func (r *Resolved) fast() bool {
	has := func(asked []string, ours ...string) bool {
		return len(asked) == 0 || slices.ContainsFunc(asked, func(s string) bool { return slices.Contains(ours, s) })
	}
	return has(r.Ciphers, sshwire.CipherAES128GCM, sshwire.CipherAES256GCM) && has(r.KexAlgorithms, sshwire.KexMLKEM768X25519, sshwire.KexCurve25519)
}

// runFast logs in with keys.
func (h *handshake) runFast(ctx context.Context, tcp *net.TCPConn) (*sshwire.Conn, error) {
	h.begin()
	defer h.pause()
	keys, err := loadHostKeys(h.r)
	if err != nil {
		return nil, &configError{err}
	}
	h.auth = newLogin(ctx, h)
	defer h.auth.close()
	config := &sshwire.ClientConfig{
		User:              h.r.User,
		Algorithms:        sshwire.Algorithms{KeyExchanges: h.r.KexAlgorithms, Ciphers: h.r.Ciphers},
		HostKeyCallback:   func(_ string, _ net.Addr, key ssh.PublicKey) error { return h.checkHostKey(ctx, keys, key) },
		HostKeyAlgorithms: keys.algorithms(h.r.HostKeyAlgorithms),
		Banner:            h.banner,
		ClientVersion:     clientVersion,
	}
	config.HostKeyAlgorithms, err = choose("HostKeyAlgorithms", config.HostKeyAlgorithms, ssh.SupportedAlgorithms().HostKeys)
	if err != nil {
		return nil, &configError{err}
	}
	if len(h.auth.order()) == 0 || !slices.Contains(h.auth.order(), "publickey") {
		return nil, sshwire.ErrUnsupported
	}
	for _, c := range h.auth.candidates() {
		config.Signers = append(config.Signers, c.signer)
		h.auth.tried = append(h.auth.tried, c.name)
	}
	conn, err := sshwire.Client(tcp, config)
	var refused *sshwire.AuthError
	switch {
	case err == nil:
		return conn, nil
	case errors.Is(err, sshwire.ErrUnsupported) && h.key == nil && !h.expired.Load():
		return nil, err
	case errors.As(err, &refused):
		h.auth.asked, h.auth.allowed = true, refused.Allowed
	}
	return nil, h.explain(err)
}

// fastWire is sshwire's.
type fastWire struct {
	conn *sshwire.Conn
	ctx  context.Context //nolint:containedctx // of Run, which close ends
	stop context.CancelFunc
}

func (w *fastWire) serve(keepalive time.Duration, unanswered int, arrive func(arriving)) error {
	err := w.conn.Run(w.ctx, sshwire.Options{
		Keepalive: keepalive, KeepaliveMax: unanswered,
		Channel: func(in *sshwire.Incoming) {
			if in.Type != sshchan.Forwarded && in.Type != sshchan.ForwardedUnix {
				in.Reject(sshwire.UnknownChannelType, "unknown channel type")
				return
			}
			arrive(w.arriving(in))
		},
	})
	w.stop()
	if errors.Is(err, sshwire.ErrDead) {
		err = silentError(keepalive * time.Duration(unanswered+1))
	}
	return err
}

func (w *fastWire) arriving(in *sshwire.Incoming) arriving {
	return arriving{
		kind: in.Type, extra: in.Extra,
		accept: func(local, remote net.Addr, gone func()) (net.Conn, error) {
			ch, err := in.Accept(nil)
			if err != nil {
				return nil, err
			}
			return sshchan.NewFast(w.conn, ch, sshchan.FastEnds{Local: local, Remote: remote, Gone: gone}), nil
		},
		reject: func(reason ssh.RejectionReason, text string) { in.Reject(uint32(reason), text) },
		meet: func(fd int, o node.MeetOptions, gone func()) node.Borne {
			return sshchan.Meet(in, fd, o, gone)
		},
	}
}

func (w *fastWire) request(name string, payload []byte) (bool, []byte, error) {
	return w.conn.SendRequest(w.ctx, name, true, payload)
}

func (w *fastWire) open(ctx context.Context, o opening, gone func()) (net.Conn, error) {
	ch, err := w.conn.OpenChannel(ctx, o.kind, o.payload, nil)
	if err != nil {
		if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
			gone()
			return nil, ctx.Err()
		}
		return nil, sshchan.Refusal(err)
	}
	return sshchan.NewFast(w.conn, ch, sshchan.FastEnds{Local: localAddr(o.remote), Remote: o.remote, Gone: gone}), nil
}

func (w *fastWire) server() string { return string(w.conn.Login().ServerVersion()) }

func (w *fastWire) alive() bool {
	select {
	case <-w.conn.Done():
		return false
	default:
		return w.ctx.Err() == nil
	}
}

func (w *fastWire) close() {
	w.stop()
	_ = w.conn.Close()
}

// Lead has the connection carry a client from accept to end, if there is one that can.
func (n *Node) Lead(fd int, client netip.AddrPort, network, addr string, o node.LeadOptions) (node.Borne, bool) {
	var what, kind string
	var payload []byte
	open := func(network, addr string) (string, []byte, error) {
		open, err := openFor(client, network, addr)
		what = open.what
		return open.kind, open.payload, err
	}
	if o.First == nil {
		var err error
		if kind, payload, err = open(network, addr); err != nil {
			return nil, false
		}
	}
	l := n.ready()
	if l == nil {
		return nil, false
	}
	w, ok := l.wire.(*fastWire)
	if !ok {
		l.release()
		return nil, false
	}
	lead := &sshchan.Lead{
		Conn: w.conn, FD: fd, Options: o, Ends: sshchan.FastEnds{Gone: l.release}, Open: open,
		Explain: func(err error) error {
			if errors.Is(err, context.DeadlineExceeded) {
				return fmt.Errorf("%s: %w", what, err)
			}
			return channelError(what, err)
		},
	}
	return lead.Start(kind, payload), true
}
