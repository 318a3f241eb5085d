package sshd

import (
	"bytes"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/fairlead-net/fairlead/forward"
)

// Keys is who may log in: the lines of authorized_keys files, and authorities. It is never changed once it is in use.
type Keys struct {
	lines map[string][]*keyLine // by the key in wire form
	names map[string]bool
}

// A keyLine is one line of a file.
type keyLine struct {
	where   string // file:line
	key     ssh.PublicKey
	comment string
	name    string // of plain keys: distinct
	keyOptions
	global bool // an authority for everybody, from a file of user CAs
}

// errNoKey is the answer to a key that no line speaks of; it says nothing of what others there are.
var errNoKey = errors.New("the key is not authorised")

// Rights are what one login may do.
type Rights struct {
	name    string // KEYNAME
	expires time.Time
	noTouch bool

	forwarding   bool
	open, listen []place
}

func newKeys(lines []*keyLine) *Keys {
	k := &Keys{lines: map[string][]*keyLine{}, names: map[string]bool{}}
	owner := map[string]string{} // whose key has the name
	for _, l := range lines {
		wire := string(l.key.Marshal())
		k.lines[wire] = append(k.lines[wire], l)
		if l.authority {
			continue
		}
		print := shortPrint(l.key)
		if l.name = validName(l.comment); l.name == "" {
			l.name = print
		}
		if of, taken := owner[l.name]; taken && of != wire {
			l.name = fit(l.name, print)
		}
		owner[l.name] = wire
		k.names[l.name] = true
	}
	return k
}

// Len is how many lines there are.
func (k *Keys) Len() int {
	n := 0
	for _, lines := range k.lines {
		n += len(lines)
	}
	return n
}

// Login says what a client may do who proves to have a key or certificate.
func (k *Keys) Login(key ssh.PublicKey, user string, from netip.Addr, now time.Time) (*Rights, error) {
	cert, isCert := key.(*ssh.Certificate)
	if isCert {
		key = cert.SignatureKey
	}
	err := errNoKey
	for _, l := range k.lines[string(key.Marshal())] {
		if l.authority != isCert {
			continue
		}
		var r *Rights
		if r, err = l.login(cert, user, from, now); err == nil {
			if isCert {
				r.name = k.certName(cert)
			}
			return r, nil
		}
		err = fmt.Errorf("%s: %w", l.where, err)
	}
	return nil, err
}

func (l *keyLine) login(cert *ssh.Certificate, user string, from netip.Addr, now time.Time) (*Rights, error) {
	switch {
	case l.sources != nil && !matchSources(l.sources, from):
		return nil, fmt.Errorf("from= does not permit %s", from)
	case !l.expires.IsZero() && !now.Before(l.expires):
		return nil, errExpired
	}
	r := &Rights{name: l.name, expires: l.expires, noTouch: l.noTouch, forwarding: l.forwarding, open: l.open, listen: l.listen}
	if cert == nil {
		return r, nil
	}
	return r, l.checkCert(r, cert, user, from, now)
}

// Certificates have a name of their own that the authority gave; one that is also a key's name, or that had to be bent to be
// a name, is told apart by what it was made of.
func (k *Keys) certName(cert *ssh.Certificate) string {
	name := validName(cert.KeyId)
	if name == cert.KeyId && name != "" && !k.names[name] {
		return name
	}
	sum := sha256.Sum256(append(cert.SignatureKey.Marshal(), cert.KeyId...))
	return fit(name, shortSum(sum[:]))
}

// validName makes a name of s: letters, digits and "._-" stay, and it starts with a letter or digit.
func validName(s string) string {
	name := strings.Map(func(c rune) rune {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', strings.ContainsRune("._-", c):
			return c
		case c == '@' || c == ' ':
			return '-'
		}
		return '_'
	}, s)
	name = strings.TrimLeft(name, "._-")
	return name[:min(len(name), maxKeyName)]
}

// maxKeyName leaves room for what stands around a key's name in the name of a forward.
const maxKeyName = forward.MaxNameLen / 2

// fit puts a mark behind a name.
func fit(name, mark string) string {
	if name == "" {
		return mark
	}
	return name[:min(len(name), maxKeyName-len(mark)-1)] + "-" + mark
}

func shortPrint(key ssh.PublicKey) string {
	sum := sha256.Sum256(key.Marshal())
	return shortSum(sum[:])
}

// shortSum is the start of a SHA-256 as ssh-keygen writes it, without what no name has.
func shortSum(sum []byte) string {
	text := base64.RawStdEncoding.EncodeToString(sum)
	return strings.NewReplacer("+", "", "/", "").Replace(text)[:10]
}

// parseKeys reads a file in the form of authorized_keys, and skips the lines that it refuses, which bad is told of. In a
// file of authorities each line is a key without options.
func parseKeys(name string, text []byte, authorities bool, bad func(where string, err error)) []*keyLine {
	var lines []*keyLine
	number := 0
	for raw := range bytes.SplitSeq(text, []byte("\n")) {
		number++
		line := strings.TrimSpace(string(raw))
		if line == "" || line[0] == '#' {
			continue
		}
		where := fmt.Sprintf("%s:%d", name, number)
		l, err := parseKeyLine(line)
		if err == nil && authorities {
			if l.authority = true; len(line) != len(skipOptions(line)) {
				err = errors.New("a key of an authority has no options")
			}
			l.global = true
		}
		if err != nil {
			bad(where, err)
			continue
		}
		l.where = where
		lines = append(lines, l)
	}
	return lines
}

// maxKeyLine is the longest line, which is also that of OpenSSH (SSH_MAX_PUBKEY_BYTES).
const maxKeyLine = 16384

// parseKeyLine reads "[options] type base64 [comment]".
func parseKeyLine(line string) (*keyLine, error) {
	if len(line) > maxKeyLine {
		return nil, fmt.Errorf("the line is longer than %d bytes", maxKeyLine)
	}
	rest := skipOptions(line)
	l := &keyLine{keyOptions: keyOptions{forwarding: true}}
	if options := strings.TrimRight(line[:len(line)-len(rest)], " \t"); options != "" {
		var err error
		if l.keyOptions, err = parseKeyOptions(options); err != nil {
			return nil, err
		}
	}
	var err error
	if l.key, l.comment, err = parsePublicKey(rest); err != nil {
		return nil, err
	}
	if l.verify && strings.HasPrefix(l.key.Type(), "sk-") {
		return nil, errors.New("verify-required cannot be checked by this server, so the key is not taken")
	}
	return l, nil
}

// skipOptions is line from the key on. A line without options starts with the type of its key.
func skipOptions(line string) string {
	if word, _, _ := strings.Cut(strings.ReplaceAll(line, "\t", " "), " "); slices.Contains(keyTypes, word) {
		return line
	}
	quoted := false
	for i := 0; i < len(line); i++ {
		switch c := line[i]; {
		case c == '\\' && i+1 < len(line) && line[i+1] == '"':
			i++
		case c == '"':
			quoted = !quoted
		case (c == ' ' || c == '\t') && !quoted:
			return strings.TrimLeft(line[i:], " \t")
		}
	}
	return ""
}

// keyTypes are the keys that may log in.
var keyTypes = []string{
	ssh.KeyAlgoED25519, ssh.KeyAlgoRSA, ssh.KeyAlgoECDSA256, ssh.KeyAlgoECDSA384, ssh.KeyAlgoECDSA521,
	ssh.KeyAlgoSKED25519, ssh.KeyAlgoSKECDSA256,
}

func parsePublicKey(s string) (key ssh.PublicKey, comment string, err error) {
	kind, s, _ := strings.Cut(strings.ReplaceAll(s, "\t", " "), " ")
	if !slices.Contains(keyTypes, kind) {
		return nil, "", fmt.Errorf("%.40q is no type of key that may log in", kind)
	}
	blob, comment, _ := strings.Cut(strings.TrimLeft(s, " "), " ")
	wire, err := base64.StdEncoding.DecodeString(blob)
	if err != nil {
		return nil, "", errors.New("the key is not base64")
	}
	if key, err = ssh.ParsePublicKey(wire); err != nil {
		return nil, "", fmt.Errorf("this is no key: %w", err)
	}
	if key.Type() != kind {
		return nil, "", fmt.Errorf("the line says %s, the key is %s", kind, key.Type())
	}
	return key, strings.TrimSpace(comment), checkStrength(key)
}

// checkStrength refuses RSA keys that are too short to prove anything.
func checkStrength(key ssh.PublicKey) error {
	if c, ok := key.(ssh.CryptoPublicKey); ok {
		if k, ok := c.CryptoPublicKey().(*rsa.PublicKey); ok && k.N.BitLen() < leastRSABits {
			return fmt.Errorf("RSA with %d bits is too weak; %d is the least", k.N.BitLen(), leastRSABits)
		}
	}
	return nil
}
