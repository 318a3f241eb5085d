package sshwire

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/crypto/ssh"
)

const defaultTries = 6

var (
	errNoTries = errors.New("the client has tried as many keys as it may")
	errMethod  = errors.New("only keys are taken")
)

// defaultPublicKeys are the algorithms by which clients may sign. Those of certificates go with those of their keys.
func defaultPublicKeys() []string {
	return []string{
		ssh.KeyAlgoED25519, ssh.KeyAlgoSKED25519, ssh.KeyAlgoSKECDSA256,
		ssh.KeyAlgoECDSA256, ssh.KeyAlgoECDSA384, ssh.KeyAlgoECDSA521, ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256,
	}
}

// A candidate is a key that was asked for, and what the callback said.
type candidate struct {
	user        string
	blob        []byte
	key         ssh.PublicKey
	permissions *ssh.Permissions
	err         error
}

// admit serves the login of a client (RFC 4252).
func (h *handshake) admit(config *ServerConfig) (user string, permissions *ssh.Permissions, err error) {
	if err := h.grantService(); err != nil {
		return "", nil, err
	}
	tries := config.MaxAuthTries
	if tries == 0 {
		tries = defaultTries
	}
	tried := config.Tried
	if tried == nil {
		tried = func(ssh.ConnMetadata, string, error) {}
	}
	var last candidate
	noneBefore := false
	for {
		p, err := h.message()
		if err != nil {
			return "", nil, err
		}
		if p[0] != msgAuthRequest {
			return "", nil, broken("message %d before the login", p[0])
		}
		r := reader{b: p[1:]}
		user, service, method := r.string(), r.string(), r.string()
		if r.bad || service != serviceConnection {
			return "", nil, broken("its request for a login is malformed")
		}
		meta := h.login(user)
		what := errMethod
		if method == methodPublicKey {
			var known bool
			if known, what = h.tryKey(config, meta, &r, &last); what == nil && known {
				continue // and will sign
			}
		}
		tried(meta, method, what)
		if what == nil {
			h.end(h.begin(msgAuthSuccess))
			return user, last.permissions, h.flush()
		}
		var rules *protocolError
		if errors.As(what, &rules) {
			return "", nil, what
		}
		if method != methodNone || noneBefore { // to ask what there is costs nothing, once
			tries--
		}
		noneBefore = noneBefore || method == methodNone
		if tries <= 0 {
			h.disconnect(reasonNoMoreMethods, "too many attempts to log in")
			_ = h.flush() // the connection ends either way
			return "", nil, fmt.Errorf("%w; the last: %w", errNoTries, what)
		}
		h.end(appendBool(appendNames(h.begin(msgAuthFailure), []string{methodPublicKey}), false))
	}
}

func (h *handshake) grantService() error {
	p, err := h.message()
	if err != nil {
		return err
	}
	r := reader{b: p[1:]}
	if name := r.string(); p[0] != msgServiceRequest || !r.end() || name != serviceAuth {
		h.disconnect(reasonNoService, "log in first")
		_ = h.flush() // the connection ends either way
		return broken("message %d instead of a request for the login", p[0])
	}
	h.end(appendString(h.begin(msgServiceAccept), serviceAuth))
	return nil
}

// tryKey takes an attempt with a key. asked is that the client only wants to know whether it should sign.
func (h *handshake) tryKey(config *ServerConfig, meta *Login, r *reader, last *candidate) (asked bool, err error) {
	signs, algorithm, blob := r.bool(), r.string(), r.bytes()
	var signature []byte
	if signs {
		signature = r.bytes()
	}
	if !r.end() {
		return false, broken("its attempt to log in with a key is malformed")
	}
	if !slices.Contains(h.offered, algorithm) && !slices.Contains(h.offered, signatureFormat(algorithm)) {
		return false, fmt.Errorf("signatures with %s are not taken", printable(algorithm))
	}
	if last.key == nil || last.user != meta.user || !bytes.Equal(last.blob, blob) {
		key, err := ssh.ParsePublicKey(blob)
		if err != nil {
			return false, fmt.Errorf("a key that cannot be read: %w", err)
		}
		*last = candidate{user: meta.user, blob: bytes.Clone(blob), key: key}
		if last.permissions, last.err = config.PublicKeyCallback(meta, key); last.err == nil {
			last.err = checkSource(last.permissions, meta.remote)
		}
	}
	if !slices.Contains(algorithmsOf(last.key.Type()), algorithm) {
		return false, fmt.Errorf("a key of the kind %s does not sign with %s", last.key.Type(), printable(algorithm))
	}
	if last.err != nil {
		return false, last.err
	}
	if !signs {
		h.end(appendString(appendString(h.begin(msgAuthKeyOK), algorithm), blob))
		return true, nil
	}
	s, err := parseSignature(signature, algorithm)
	if err != nil {
		return false, err
	}
	signed := appendString(nil, h.session)
	signed = appendKeyRequest(append(signed, msgAuthRequest), meta.user, algorithm, blob, true)
	if err := verifyLogin(last.key, last.permissions, signed, s); err != nil {
		return false, fmt.Errorf("the signature of the login is wrong: %w", err)
	}
	return false, nil
}
