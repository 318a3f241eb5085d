package sshd

import (
	"errors"
	"log/slog"
	"net/netip"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/fairlead-net/fairlead/internal/sshchan"
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

func (l *login) config(hostKeys []ssh.Signer) *ssh.ServerConfig {
	c := &ssh.ServerConfig{
		Config:                  algorithms(),
		PublicKeyAuthAlgorithms: publicKeyAlgorithms(),
		MaxAuthTries:            maxTries,
		PublicKeyCallback:       l.publicKey,
		AuthLogCallback:         l.tried,
		ServerVersion:           banner,
	}
	for _, key := range hostKeys {
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

// handshake speaks SSH up to the login, which has to come before the deadline.
func (l *login) handshake(wire *sshchan.Wire, hostKeys []ssh.Signer, deadline time.Time) (*ssh.ServerConn, <-chan ssh.NewChannel, <-chan *ssh.Request, identity, error) {
	config := l.config(hostKeys)
	conn := &helloConn{Wire: wire}
	known, err := hello(conn, deadline)
	if err != nil {
		return nil, nil, nil, identity{}, err
	}
	config.Ciphers = offer(known, fastGCM())
	sc, channels, requests, err := ssh.NewServerConn(conn, config)
	if err != nil {
		return nil, nil, nil, identity{}, err
	}
	return sc, channels, requests, sc.Permissions.ExtraData[identityKey{}].(identity), nil
}
