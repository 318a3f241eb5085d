package sshwire

import (
	"crypto/rand"
	"errors"
	"slices"
	"strings"

	"golang.org/x/crypto/ssh"
)

// plainAlgorithm is what a signature is made with: without the certificate.
func plainAlgorithm(name string) string {
	return strings.Replace(name, "-cert-v01@", "@", 1)
}

// signatureFormat is how signatures of an algorithm call themselves (RFC 8332, section 3; OpenSSH's PROTOCOL.certkeys).
func signatureFormat(algorithm string) string {
	plain := plainAlgorithm(algorithm)
	if plain != algorithm && !strings.HasPrefix(plain, "sk-") {
		plain = strings.TrimSuffix(plain, "@openssh.com")
	}
	return plain
}

// algorithmsOf is by which algorithms a key of a type can sign, the best first. SHA-1 is not among them.
func algorithmsOf(keyType string) []string {
	switch keyType {
	case ssh.KeyAlgoRSA:
		return []string{ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256}
	case ssh.CertAlgoRSAv01:
		return []string{ssh.CertAlgoRSASHA512v01, ssh.CertAlgoRSASHA256v01}
	case ssh.InsecureKeyAlgoDSA: //nolint:staticcheck // to refuse it
		return nil
	}
	return []string{keyType}
}

// signersAlgorithms is by which algorithms a signer can sign.
func signersAlgorithms(s ssh.Signer) []string {
	list := algorithmsOf(s.PublicKey().Type())
	if multi, ok := s.(ssh.MultiAlgorithmSigner); ok {
		can := multi.Algorithms()
		list = slices.DeleteFunc(slices.Clone(list), func(name string) bool {
			return !slices.Contains(can, name) && !slices.Contains(can, signatureFormat(name))
		})
	}
	return list
}

// sign signs by one of signersAlgorithms.
func sign(s ssh.Signer, data []byte, algorithm string) (*ssh.Signature, error) {
	format := signatureFormat(algorithm)
	var signature *ssh.Signature
	var err error
	if as, ok := s.(ssh.AlgorithmSigner); ok {
		signature, err = as.SignWithAlgorithm(rand.Reader, data, format)
	} else {
		signature, err = s.Sign(rand.Reader, data)
	}
	if err == nil && signature.Format != format {
		err = errors.New("the key signed with " + signature.Format + " rather than " + format)
	}
	return signature, err
}

// parseSignature reads what was signed with algorithm.
func parseSignature(b []byte, algorithm string) (*ssh.Signature, error) {
	r := reader{b: b}
	s := &ssh.Signature{Format: r.string(), Blob: r.bytes(), Rest: r.b}
	if r.bad || len(s.Rest) > 0 && !strings.HasPrefix(s.Format, "sk-") {
		return nil, broken("its signature is malformed")
	}
	if s.Format != signatureFormat(algorithm) {
		return nil, broken("its signature is of the kind %s and not %s", printable(s.Format), algorithm)
	}
	return s, nil
}

// verifyHostKey checks that the server has the key that it shows, of the kind that was agreed on.
func verifyHostKey(blob, signature, hash []byte, algorithm string) (ssh.PublicKey, error) {
	key, err := ssh.ParsePublicKey(blob)
	if err != nil {
		return nil, broken("its host key cannot be read: %s", printable(err.Error()))
	}
	if !slices.Contains(algorithmsOf(key.Type()), algorithm) {
		return nil, broken("its host key is of the kind %s and not %s", key.Type(), algorithm)
	}
	s, err := parseSignature(signature, algorithm)
	if err != nil {
		return nil, err
	}
	if err := key.Verify(hash, s); err != nil {
		return nil, broken("its host key did not sign this exchange")
	}
	return key, nil
}

// verifiable is those of asked by which a host's signature is taken.
func verifiable(asked []string) []string {
	if asked == nil {
		return defaultHostKeys()
	}
	return slices.DeleteFunc(slices.Clone(asked), func(name string) bool {
		switch name {
		case ssh.KeyAlgoRSA, ssh.CertAlgoRSAv01, ssh.InsecureKeyAlgoDSA, ssh.InsecureCertAlgoDSAv01: //nolint:staticcheck // to refuse them
			return true
		}
		return false
	})
}

// defaultHostKeys are the kinds of host keys that a client takes, if it is not told.
func defaultHostKeys() []string {
	return []string{
		ssh.CertAlgoED25519v01, ssh.CertAlgoECDSA256v01, ssh.CertAlgoECDSA384v01, ssh.CertAlgoECDSA521v01,
		ssh.CertAlgoRSASHA512v01, ssh.CertAlgoRSASHA256v01,
		ssh.KeyAlgoED25519, ssh.KeyAlgoECDSA256, ssh.KeyAlgoECDSA384, ssh.KeyAlgoECDSA521, ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256,
	}
}
