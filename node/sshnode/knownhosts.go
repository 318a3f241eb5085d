package sshnode

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha1"
	"encoding/base64"
	"fmt"
	"strings"

	"golang.org/x/crypto/ssh"
)

// The markers of sshd(8), SSH_KNOWN_HOSTS FILE FORMAT.
const (
	markerCA      = "@cert-authority"
	markerRevoked = "@revoked"
)

// A knownLine is one line of a known_hosts file. The parser of the library is not used, since it refuses a whole file for one
// line that it does not understand, and takes * for port 22 alone.
type knownLine struct {
	file       string
	line       int
	marker     string
	patterns   []string
	salt, hash []byte // of a hashed name, instead of patterns
	key        ssh.PublicKey
}

func (l *knownLine) known() KnownKey {
	return KnownKey{
		File: l.file, Line: l.line, Type: l.key.Type(), Fingerprint: ssh.FingerprintSHA256(l.key),
		CA: l.marker == markerCA, Revoked: l.marker == markerRevoked, key: l.key,
	}
}

// parseKnownHosts passes over what it does not understand, as OpenSSH does: such a line makes no key known.
func parseKnownHosts(file string, text []byte) []knownLine {
	var lines []knownLine
	for i, raw := range bytes.Split(text, []byte("\n")) {
		if l, ok := parseKnownLine(string(raw)); ok {
			l.file, l.line = file, i+1
			lines = append(lines, l)
		}
	}
	return lines
}

func parseKnownLine(s string) (knownLine, bool) {
	var l knownLine
	fields := strings.Fields(s)
	if len(fields) > 0 && strings.HasPrefix(fields[0], "@") {
		l.marker = fields[0]
		if fields = fields[1:]; l.marker != markerCA && l.marker != markerRevoked {
			return l, false
		}
	}
	if len(fields) < 3 || strings.HasPrefix(fields[0], "#") {
		return l, false
	}
	if strings.HasPrefix(fields[0], "|") {
		// |1|salt|hash, of HMAC-SHA1
		parts := strings.Split(fields[0], "|")
		if len(parts) != 4 || parts[1] != "1" {
			return l, false
		}
		var err1, err2 error
		l.salt, err1 = base64.StdEncoding.DecodeString(parts[2])
		l.hash, err2 = base64.StdEncoding.DecodeString(parts[3])
		if err1 != nil || err2 != nil || len(l.hash) != sha1.Size {
			return l, false
		}
	} else {
		l.patterns = strings.Split(strings.ToLower(fields[0]), ",")
	}
	blob, err := base64.StdEncoding.DecodeString(fields[2])
	if err != nil {
		return l, false
	}
	l.key, err = ssh.ParsePublicKey(blob)
	if err != nil || l.key.Type() != fields[1] {
		return l, false
	}
	return l, true
}

// matches reports whether the line is about a name, which is "host" or "[host]:port" in small letters.
func (l *knownLine) matches(name string) bool {
	if l.hash != nil {
		mac := hmac.New(sha1.New, l.salt)
		mac.Write([]byte(name))
		return hmac.Equal(mac.Sum(nil), l.hash)
	}
	found := false
	for _, p := range l.patterns {
		negated := strings.HasPrefix(p, "!")
		if !wildcard(strings.TrimPrefix(p, "!"), name) {
			continue
		}
		if negated {
			return false
		}
		found = true
	}
	return found
}

// wildcard matches * and ? of ssh_config(5), PATTERNS, in time that grows with the product of the lengths.
func wildcard(pattern, s string) bool {
	p, i, star, mark := 0, 0, -1, 0
	for i < len(s) {
		switch {
		case p < len(pattern) && pattern[p] == '*':
			star, mark = p, i
			p++
		case p < len(pattern) && (pattern[p] == '?' || pattern[p] == s[i]):
			p++
			i++
		case star >= 0:
			mark++
			p, i = star+1, mark
		default:
			return false
		}
	}
	return strings.Trim(pattern[p:], "*") == ""
}

// parseRevoked reads a list of public keys, one a line. A line that is none is an error: it might have been a revocation.
func parseRevoked(text []byte) ([][]byte, error) {
	var list [][]byte
	for i, raw := range bytes.Split(text, []byte("\n")) {
		if raw = bytes.TrimSpace(raw); len(raw) == 0 || raw[0] == '#' {
			continue
		}
		key, _, _, _, err := ssh.ParseAuthorizedKey(raw)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", i+1, err)
		}
		list = append(list, key.Marshal())
	}
	return list, nil
}
