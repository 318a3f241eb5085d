package sshd

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/sys/cpu"

	"github.com/fairlead-net/fairlead/internal/sshchan"
	"github.com/fairlead-net/fairlead/internal/sshwire"
)

// banner is how the server names itself (RFC 4253, section 4.2). It tells no version: that is for nobody to know.
const banner = "SSH-2.0-Fairlead"

// maxTries is how many keys a client may offer in one connection.
const maxTries = 6

// algorithms are what is offered: nothing that an audit warns of, and among the rest one for every client in use. Post-quantum
// key exchange is first; MACs are encrypt-then-MAC; x/crypto adds strict key exchange by itself.
func algorithms() ssh.Config {
	return ssh.Config{
		KeyExchanges: []string{ssh.KeyExchangeMLKEM768X25519, ssh.KeyExchangeCurve25519},
		Ciphers: []string{
			ssh.CipherAES128GCM, ssh.CipherAES256GCM, ssh.CipherChaCha20Poly1305,
			ssh.CipherAES256CTR, ssh.CipherAES192CTR, ssh.CipherAES128CTR,
		},
		MACs: []string{ssh.HMACSHA256ETM, ssh.HMACSHA512ETM},
	}
}

// publicKeyAlgorithms are the signatures that clients log in with; none uses SHA-1.
func publicKeyAlgorithms() []string {
	return []string{
		ssh.KeyAlgoED25519, ssh.KeyAlgoSKED25519, ssh.KeyAlgoSKECDSA256,
		ssh.KeyAlgoECDSA256, ssh.KeyAlgoECDSA384, ssh.KeyAlgoECDSA521, ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256,
	}
}

// A login is what is known of one connection while it logs in.
type login struct {
	log       *slog.Logger
	authorize func() (*Keys, error)
	from      netip.AddrPort
	hostKeys  []ssh.Signer
	failures  int
	last      error // why the last key was not taken
}

// identity is who logged in: what to ask again when the keys have changed.
type identity struct {
	user string
	key  ssh.PublicKey
	keys *Keys // by which rights were found
	*Rights
}

type identityKey struct{}

func (l *login) config() *ssh.ServerConfig {
	c := &ssh.ServerConfig{
		Config:                  algorithms(),
		PublicKeyAuthAlgorithms: publicKeyAlgorithms(),
		MaxAuthTries:            maxTries,
		PublicKeyCallback:       l.publicKey,
		AuthLogCallback:         l.tried,
		ServerVersion:           banner,
	}
	for _, key := range l.hostKeys {
		c.AddHostKey(key)
	}
	return c
}

func (l *login) publicKey(conn ssh.ConnMetadata, key ssh.PublicKey) (*ssh.Permissions, error) {
	keys, err := l.authorize()
	if err != nil {
		l.log.Error("who may log in is not known", "error", err)
		return nil, errNoKey
	}
	rights, err := keys.Login(key, conn.User(), l.from.Addr(), time.Now())
	if err != nil {
		l.last = err
		return nil, err
	}
	p := &ssh.Permissions{ExtraData: map[any]any{identityKey{}: identity{conn.User(), key, keys, rights}}}
	if rights.noTouch {
		p.Extensions = map[string]string{extensionNoTouch: ""}
	}
	return p, nil
}

// tried counts what did not let the client in. "none" is how clients ask what there is.
func (l *login) tried(conn ssh.ConnMetadata, method string, err error) {
	if err == nil || method == "none" || errors.Is(err, ssh.ErrNoAuth) {
		return
	}
	l.failures++
	l.log.Debug("login refused", "user", conn.User(), "method", method, "error", err)
}

// handshake speaks SSH up to the login, which has to come before the deadline. A client that sshwire can serve is served by it.
func (s *Server) handshake(ctx context.Context, l *login, conn net.Conn, deadline time.Time) (peer, identity, error) {
	ciphers := algorithms().Ciphers
	if socket, ok := conn.(*net.TCPConn); ok && !s.o.plain && fastGCM() {
		p, err := s.wireHandshake(ctx, l, socket, deadline)
		var other *sshwire.UnsupportedError
		switch {
		case err == nil:
			return p, identityOf(p.Permissions()), nil
		case !errors.As(err, &other) || other.Conn == nil:
			return nil, identity{}, err
		}
		conn = other.Conn
		_ = conn.SetDeadline(deadline) // fails on a closed connection, as everything after it will
		if other.Agreed {
			ciphers = slices.DeleteFunc(ciphers, func(name string) bool { return !strings.Contains(name, "-gcm@") })
		}
	}
	config := l.config()
	config.Ciphers = ciphers
	wire := sshchan.NewWire(conn)
	sc, channels, requests, err := ssh.NewServerConn(wire, config)
	if err != nil {
		return nil, identity{}, err
	}
	wire.LoggedIn()
	return &plainPeer{sc, wire, channels, requests}, identityOf(sc.Permissions), nil
}

// wireHandshake is the same for sshwire. With an *sshwire.UnsupportedError the connection can be given to x/crypto.
func (s *Server) wireHandshake(ctx context.Context, l *login, conn *net.TCPConn, deadline time.Time) (*wirePeer, error) {
	loop, leave, err := s.loops.join(ctx)
	if err != nil && !errors.Is(err, sshwire.ErrUnsupported) { // out of descriptors
		return nil, &sshwire.UnsupportedError{What: "anything without descriptors", Conn: conn}
	}
	if err != nil { // of other systems; the client's algorithms are of interest all the same
		leave = func() {}
	}
	c, err := sshwire.Server(conn, &sshwire.ServerConfig{
		HostKeys: l.hostKeys, PublicKeyCallback: l.publicKey, PublicKeyAlgorithms: publicKeyAlgorithms(), Tried: l.tried,
		Loop: loop, MaxAuthTries: maxTries, ServerVersion: banner, Timeout: max(time.Until(deadline), 1),
	})
	if err != nil {
		leave()
		return nil, err
	}
	return &wirePeer{c, leave}, nil
}

func identityOf(p *ssh.Permissions) identity { return p.ExtraData[identityKey{}].(identity) }

// fastGCM reports whether this machine has AES-GCM in hardware. Without, ChaCha20 is faster, which sshwire does not have. With it,
// AES-GCM takes half the time, and which cipher is used is the client's choice: the first of its list that the server has, too
// (RFC 4253, section 7.1), which is ChaCha20 with old OpenSSH. So whoever knows AES-GCM is offered nothing else.
func fastGCM() bool {
	return cpu.X86.HasAES && cpu.X86.HasPCLMULQDQ || cpu.ARM64.HasAES && cpu.ARM64.HasPMULL || cpu.S390X.HasAESGCM
}
