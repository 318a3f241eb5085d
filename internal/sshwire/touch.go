package sshwire

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/sha256"
	"errors"
	"math/big"

	"golang.org/x/crypto/ssh"
)

// noTouch is the extension by which the touch of a security key is not asked for (OpenSSH's PROTOCOL.certkeys).
const noTouch = "no-touch-required"

var errSignature = errors.New("the signature does not match")

// verifyLogin checks the signature of a login. x/crypto wants the touch of a security key, and has no way to do without.
func verifyLogin(key ssh.PublicKey, permissions *ssh.Permissions, signed []byte, s *ssh.Signature) error {
	err := key.Verify(signed, s)
	if err == nil || len(s.Rest) == 0 {
		return err
	}
	spared := false
	if permissions != nil {
		_, spared = permissions.Extensions[noTouch]
	}
	if cert, ok := key.(*ssh.Certificate); ok {
		key = cert.Key
		if _, inCert := cert.Extensions[noTouch]; inCert {
			spared = true
		}
	}
	if !spared {
		return err
	}
	return verifyUntouched(key, signed, s)
}

// verifyUntouched is PROTOCOL.u2f of OpenSSH, "SSH U2F Signatures", but for the flag of the touch.
func verifyUntouched(key ssh.PublicKey, signed []byte, s *ssh.Signature) error {
	r := reader{b: key.Marshal()}
	kind := r.string()
	if kind == ssh.KeyAlgoSKECDSA256 {
		r.bytes() // the curve's name; there is one
	}
	public, application := r.bytes(), r.bytes()
	if !r.end() || s.Format != kind || len(s.Rest) != 5 {
		return errSignature
	}
	app, message := sha256.Sum256(application), sha256.Sum256(signed)
	blob := append(append(append([]byte(nil), app[:]...), s.Rest...), message[:]...) // Rest: flags and counter
	switch kind {
	case ssh.KeyAlgoSKED25519:
		if len(public) == ed25519.PublicKeySize && ed25519.Verify(public, blob, s.Blob) {
			return nil
		}
	case ssh.KeyAlgoSKECDSA256:
		point, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), public)
		if err != nil {
			return err
		}
		pair := reader{b: s.Blob}
		a, b := new(big.Int).SetBytes(pair.bytes()), new(big.Int).SetBytes(pair.bytes())
		hash := sha256.Sum256(blob)
		if pair.end() && ecdsa.Verify(point, hash[:], a, b) {
			return nil
		}
	}
	return errSignature
}
