package sshwire

import (
	"slices"

	"golang.org/x/crypto/ssh"
)

// Names of services and methods (RFC 4252).
const (
	serviceAuth       = "ssh-userauth"
	serviceConnection = "ssh-connection"
	methodNone        = "none"
	methodPublicKey   = "publickey"
)

// authenticate offers one key after the other (RFC 4252, section 7). A key is asked to sign only when the server has said that
// it takes it: a signature may cost a touch or a passphrase.
func (h *handshake) authenticate(config *ClientConfig) error {
	h.end(appendString(h.begin(msgServiceRequest), serviceAuth))
	p, err := h.message()
	if err != nil {
		return err
	}
	if r := (reader{b: p[1:]}); p[0] != msgServiceAccept || r.string() != serviceAuth {
		return broken("message %d instead of an accepted service", p[0])
	}
	var failed AuthError
	for _, s := range config.Signers {
		algorithm := h.chooseAlgorithm(s)
		if algorithm == "" {
			continue
		}
		failed.Tried++
		done, err := h.offer(config, s, algorithm, &failed)
		if err != nil || done {
			return err
		}
		if len(failed.Allowed) > 0 && !slices.Contains(failed.Allowed, methodPublicKey) {
			return &failed
		}
	}
	if failed.Tried == 0 { // what would it take?
		b := appendString(appendString(h.begin(msgAuthRequest), config.User), serviceConnection)
		h.end(appendString(b, methodNone))
		done, err := h.answered(config, &failed)
		if err != nil || done {
			return err
		}
	}
	return &failed
}

// chooseAlgorithm is by what a signer signs: the first that the server takes, if it has said what it takes (RFC 8332, section 3.3).
func (h *handshake) chooseAlgorithm(s ssh.Signer) string {
	list := signersAlgorithms(s)
	if len(list) == 0 {
		return ""
	}
	for _, name := range list {
		if slices.Contains(h.theirs.signatures, name) || slices.Contains(h.theirs.signatures, signatureFormat(name)) {
			return name
		}
	}
	return list[0]
}

// offer goes through one key, and reports whether it has opened the door.
func (h *handshake) offer(config *ClientConfig, s ssh.Signer, algorithm string, failed *AuthError) (bool, error) {
	blob := s.PublicKey().Marshal()
	h.end(appendKeyRequest(h.begin(msgAuthRequest), config.User, algorithm, blob, false))
	p, err := h.answer(config)
	if err != nil {
		return false, err
	}
	if p[0] != msgAuthKeyOK {
		return h.judge(p, failed)
	}
	signed := appendString(nil, h.session)
	signed = appendKeyRequest(append(signed, msgAuthRequest), config.User, algorithm, blob, true)
	signature, err := sign(s, signed, algorithm)
	if err != nil {
		failed.Err = err // the next key may do
		return false, nil
	}
	b := appendKeyRequest(h.begin(msgAuthRequest), config.User, algorithm, blob, true)
	h.end(appendString(b, ssh.Marshal(signature)))
	return h.answered(config, failed)
}

func appendKeyRequest(b []byte, user, algorithm string, blob []byte, signed bool) []byte {
	b = appendString(appendString(appendString(b, user), serviceConnection), methodPublicKey)
	return appendString(appendString(appendBool(b, signed), algorithm), blob)
}

// answer is the server's next word but for banners.
func (h *handshake) answer(config *ClientConfig) ([]byte, error) {
	const most = 64 // banners
	for range most {
		p, err := h.message()
		if err != nil || p[0] != msgAuthBanner {
			return p, err
		}
		if r := (reader{b: p[1:]}); config.Banner != nil {
			config.Banner(r.string())
		}
	}
	return nil, broken("more than %d banners", most)
}

func (h *handshake) answered(config *ClientConfig, failed *AuthError) (bool, error) {
	p, err := h.answer(config)
	if err != nil {
		return false, err
	}
	return h.judge(p, failed)
}

// judge takes success and failure.
func (h *handshake) judge(p []byte, failed *AuthError) (bool, error) {
	switch p[0] {
	case msgAuthSuccess:
		return true, nil
	case msgAuthFailure:
		r := reader{b: p[1:]}
		failed.Allowed = r.names()
		failed.Partial = r.bool()
		if !r.end() {
			return false, broken("its refusal of a login is malformed")
		}
		return false, nil
	}
	return false, broken("message %d instead of an answer to a login", p[0])
}
