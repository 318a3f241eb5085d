package sshnode

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"
)

// hostKeys is what is known of one host.
type hostKeys struct {
	r       *Resolved
	name    string // as known_hosts has it
	bare    string // without the port, which OpenSSH tries as well; "" if that is the name
	lines   []knownLine
	revoked [][]byte // keys of RevokedHostKeys
}

// loadHostKeys reads the files that may know the host. Those that do not exist are passed over.
func loadHostKeys(r *Resolved) (*hostKeys, error) {
	k := &hostKeys{r: r}
	k.name = strings.ToLower(r.HostAlias)
	if k.name == "" {
		k.name = knownhosts.Normalize(net.JoinHostPort(strings.ToLower(r.HostName), strconv.Itoa(int(r.Port))))
		if r.Port != 22 {
			k.bare = strings.ToLower(r.HostName)
		}
	}
	for _, file := range slices.Concat(r.UserKnownHostsFiles, r.GlobalKnownHostsFiles) {
		text, err := readBounded(file)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			continue
		case err != nil:
			return nil, fmt.Errorf("known hosts: %w", err)
		}
		k.lines = append(k.lines, parseKnownHosts(file, text)...)
	}
	if r.RevokedHostKeys != "" {
		text, err := readBounded(r.RevokedHostKeys)
		if err != nil {
			return nil, fmt.Errorf("revoked host keys: %w; without the file no host is believed", err)
		}
		if bytes.HasPrefix(text, []byte("SSHKRL\n\x00")) {
			return nil, fmt.Errorf("revoked host keys: %s is a KRL, which is not understood here: list the keys as text, one a line", r.RevokedHostKeys)
		}
		if k.revoked, err = parseRevoked(text); err != nil {
			return nil, fmt.Errorf("revoked host keys: %s: %w", r.RevokedHostKeys, err)
		}
	}
	return k, nil
}

// maxKnownHosts bounds a file of known hosts.
const maxKnownHosts = 64 << 20

func readBounded(file string) ([]byte, error) {
	info, err := os.Stat(file)
	if err != nil {
		return nil, err
	}
	if info.Size() > maxKnownHosts {
		return nil, fmt.Errorf("%s is larger than %d bytes", file, maxKnownHosts)
	}
	if !info.Mode().IsRegular() {
		return nil, nil // /dev/null, as people write it
	}
	return os.ReadFile(file)
}

// about is the lines that are about a name.
func (k *hostKeys) about(name string) []knownLine {
	return slices.DeleteFunc(slices.Clone(k.lines), func(l knownLine) bool { return !l.matches(name) })
}

// algorithms puts those first that the known keys can answer, so that a server with several keys shows the one that we know.
func (k *hostKeys) algorithms(configured []string) []string {
	order := preferredHostKeys()
	if len(configured) > 0 {
		order = configured
	}
	lines := k.about(k.name)
	if k.bare != "" && len(lines) == 0 {
		lines = k.about(k.bare)
	}
	rank := func(algo string) int {
		for _, l := range lines {
			switch {
			case l.marker == markerRevoked:
			case l.marker == markerCA && isCert(algo):
				return 0
			case l.marker == "" && slices.Contains(algorithmsOf(l.key.Type()), algo):
				return 1
			}
		}
		return 2
	}
	out := slices.Clone(order)
	slices.SortStableFunc(out, func(a, b string) int { return rank(a) - rank(b) })
	return out
}

func isCert(algo string) bool { return strings.Contains(algo, "-cert-") }

// preferredHostKeys is what the library supports, certificates and small keys first.
func preferredHostKeys() []string {
	all := ssh.SupportedAlgorithms().HostKeys
	rank := func(algo string) int {
		r := 3
		switch {
		case strings.Contains(algo, "ed25519"):
			r = 0
		case strings.Contains(algo, "ecdsa"):
			r = 1
		case strings.Contains(algo, "rsa"):
			r = 2
		}
		if !isCert(algo) {
			r += 10
		}
		return r
	}
	slices.SortStableFunc(all, func(a, b string) int { return rank(a) - rank(b) })
	return all
}

// algorithmsOf is how a key of a type can sign (RFC 8332, section 3).
func algorithmsOf(keyType string) []string {
	if keyType == ssh.KeyAlgoRSA {
		return []string{ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256}
	}
	return []string{keyType}
}

// check is whether the key is the host's: nil or a *HostKeyError.
func (k *hostKeys) check(key ssh.PublicKey) *HostKeyError {
	refusal := k.checkName(k.name, key)
	if refusal != nil && len(refusal.Known) == 0 && refusal.Err == nil && k.bare != "" {
		// As OpenSSH does: a key that is known for the host without a port is believed on every port.
		if bare := k.checkName(k.bare, key); bare == nil || bare.Revoked {
			return bare
		}
	}
	return refusal
}

func (k *hostKeys) checkName(name string, key ssh.PublicKey) *HostKeyError {
	plain, signer := key, ssh.PublicKey(nil)
	cert, isCert := key.(*ssh.Certificate)
	if isCert {
		plain, signer = cert.Key, cert.SignatureKey
	}
	e := &HostKeyError{Host: k.name, Type: plain.Type(), Fingerprint: ssh.FingerprintSHA256(plain), key: plain}
	if len(k.r.UserKnownHostsFiles) > 0 {
		e.file = k.r.UserKnownHostsFiles[0]
	}
	for _, blob := range k.revoked {
		if bytes.Equal(blob, plain.Marshal()) || signer != nil && bytes.Equal(blob, signer.Marshal()) {
			e.Revoked, e.Known = true, []KnownKey{{File: k.r.RevokedHostKeys}}
			return e
		}
	}
	lines := k.about(name)
	for _, l := range lines {
		if l.marker == markerRevoked && (sameKey(l.key, plain) || signer != nil && sameKey(l.key, signer)) {
			e.Revoked, e.Known = true, []KnownKey{l.known()}
			return e
		}
	}
	if isCert {
		for _, l := range lines {
			if l.marker == markerCA && sameKey(l.key, signer) {
				if err := k.checkCert(name, cert); err != nil {
					e.Err, e.key = err, nil
					return e
				}
				return nil
			}
		}
		// The authority is not known; the key itself may be.
	}
	for _, l := range lines {
		if l.marker != "" {
			continue
		}
		if sameKey(l.key, plain) {
			return nil
		}
		e.Known = append(e.Known, l.known())
	}
	return e
}

// checkCert holds a certificate to the host's name; its principals may have wildcards, as OpenSSH allows.
func (k *hostKeys) checkCert(name string, cert *ssh.Certificate) error {
	if cert.CertType != ssh.HostCert {
		return errors.New("the certificate is not one for hosts")
	}
	if cert.Signature == nil || cert.Signature.Format == ssh.KeyAlgoRSA {
		return errors.New("its authority has signed it with SHA-1, which can be forged")
	}
	host := cmp.Or(strings.ToLower(k.r.HostAlias), strings.ToLower(k.r.HostName))
	principal := host
	for _, p := range cert.ValidPrincipals {
		if wildcard(strings.ToLower(p), host) {
			principal = p
			break
		}
	}
	checker := ssh.CertChecker{}
	return checker.CheckCert(principal, cert)
}

func sameKey(a, b ssh.PublicKey) bool { return bytes.Equal(a.Marshal(), b.Marshal()) }
