package sshwire

import (
	"crypto/ecdh"
	"crypto/mlkem"
	"crypto/rand"
	"crypto/sha256"
)

// A kexMethod is one side's part in a key exchange: the client sends its public value, the server answers with its own, and
// both have the secret. The secret is given as it is hashed: with its length.
type kexMethod interface {
	// public is what a client begins with.
	public() ([]byte, error)
	// answer is what a server says to that.
	answer(theirs []byte) (mine, secret []byte, err error)
	// finish is what a client makes of the answer.
	finish(theirs []byte) (secret []byte, err error)
}

func newKexMethod(name string) kexMethod {
	if name == KexMLKEM768X25519 {
		return &hybrid{}
	}
	return &curve25519{}
}

// curve25519 is RFC 8731, and RFC 5656, section 4. The secret is an mpint.
type curve25519 struct{ key *ecdh.PrivateKey }

func (k *curve25519) public() (public []byte, err error) {
	if k.key, err = ecdh.X25519().GenerateKey(rand.Reader); err != nil {
		return nil, err
	}
	return k.key.PublicKey().Bytes(), nil
}

// shared is the secret before it is encoded. One that is all zeros is refused by ECDH (RFC 8731, section 3).
func (k *curve25519) shared(theirs []byte) ([]byte, error) {
	public, err := ecdh.X25519().NewPublicKey(theirs)
	if err != nil {
		return nil, broken("its X25519 key has %d bytes", len(theirs))
	}
	secret, err := k.key.ECDH(public)
	if err != nil {
		return nil, broken("its X25519 key is of low order")
	}
	return secret, nil
}

func (k *curve25519) finish(theirs []byte) ([]byte, error) {
	secret, err := k.shared(theirs)
	return appendMPInt(nil, secret), err
}

func (k *curve25519) answer(theirs []byte) (mine, secret []byte, err error) {
	if mine, err = k.public(); err == nil {
		secret, err = k.finish(theirs)
	}
	return mine, secret, err
}

// hybrid is ML-KEM-768 together with X25519 (draft-ietf-sshm-mlkem-hybrid-kex, section 2.4). The secret is the hash of both
// secrets, as a string.
type hybrid struct {
	curve curve25519
	key   *mlkem.DecapsulationKey768
}

func (k *hybrid) public() (public []byte, err error) {
	if k.key, err = mlkem.GenerateKey768(); err != nil {
		return nil, err
	}
	curve, err := k.curve.public()
	return append(k.key.EncapsulationKey().Bytes(), curve...), err
}

func (k *hybrid) answer(theirs []byte) (mine, secret []byte, err error) {
	if len(theirs) != mlkem.EncapsulationKeySize768+32 {
		return nil, nil, broken("its public value for %s has %d bytes", KexMLKEM768X25519, len(theirs))
	}
	public, err := mlkem.NewEncapsulationKey768(theirs[:mlkem.EncapsulationKeySize768])
	if err != nil {
		return nil, nil, broken("its ML-KEM key is not valid")
	}
	curve, err := k.curve.public()
	if err != nil {
		return nil, nil, err
	}
	second, err := k.curve.shared(theirs[mlkem.EncapsulationKeySize768:])
	if err != nil {
		return nil, nil, err
	}
	first, sealed := public.Encapsulate()
	return append(sealed, curve...), both(first, second), nil
}

func (k *hybrid) finish(theirs []byte) (secret []byte, err error) {
	if len(theirs) != mlkem.CiphertextSize768+32 {
		return nil, broken("its public value for %s has %d bytes", KexMLKEM768X25519, len(theirs))
	}
	first, err := k.key.Decapsulate(theirs[:mlkem.CiphertextSize768])
	if err != nil {
		return nil, broken("its ML-KEM ciphertext is not valid")
	}
	second, err := k.curve.shared(theirs[mlkem.CiphertextSize768:])
	if err != nil {
		return nil, err
	}
	return both(first, second), nil
}

func both(first, second []byte) []byte {
	h := sha256.New()
	h.Write(first)
	h.Write(second)
	return appendString(nil, h.Sum(nil))
}

// deriveKey is n bytes for one purpose, of the letters A to F (RFC 4253, section 7.2). Every method here hashes with SHA-256.
func deriveKey(secret, hash, session []byte, purpose byte, n int) []byte {
	h := sha256.New()
	h.Write(secret)
	h.Write(hash)
	h.Write([]byte{purpose})
	h.Write(session)
	key := h.Sum(nil)
	for len(key) < n {
		h.Reset()
		h.Write(secret)
		h.Write(hash)
		h.Write(key)
		key = h.Sum(key)
	}
	return key[:n]
}

// Purposes of derived keys, by direction.
var (
	purposeIV  = [2]byte{toServer: 'A', toClient: 'B'}
	purposeKey = [2]byte{toServer: 'C', toClient: 'D'}
)

func keySize(cipher string) int {
	if cipher == CipherAES256GCM {
		return 32
	}
	return 16
}
