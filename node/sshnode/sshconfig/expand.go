package sshconfig

import (
	"crypto/sha1" //nolint:gosec // %C is the name of a file, and this is what it is made of
	"encoding/hex"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
)

// expand puts tokens in for %x and, where getenv is given, values of the environment for ${NAME}.
func expand(s string, tokens map[byte]string, getenv func(string) (string, bool)) (string, error) {
	if !strings.ContainsAny(s, "%$") {
		return s, nil
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		switch {
		case getenv != nil && strings.HasPrefix(s[i:], "${"):
			name, _, ok := strings.Cut(s[i+2:], "}")
			if !ok || name == "" {
				return "", fmt.Errorf("%q opens ${ and does not close it", s)
			}
			value, ok := getenv(name)
			if !ok {
				return "", fmt.Errorf("the environment has no %s", name)
			}
			b.WriteString(value)
			i += len(name) + 2
		case s[i] == '%' && tokens != nil:
			i++
			if i == len(s) {
				return "", fmt.Errorf("%q ends with a single %%", s)
			}
			value, ok := tokens[s[i]]
			if s[i] == '%' {
				value, ok = "%", true
			}
			if !ok {
				return "", fmt.Errorf("%q: %%%c is no token here", s, s[i])
			}
			b.WriteString(value)
		default:
			b.WriteByte(s[i])
		}
		if b.Len() > maxFile {
			return "", fmt.Errorf("%.40q… expands to too much", s)
		}
	}
	return b.String(), nil
}

// tokens are those that most keywords take, for a connection to host.
func (e *evaluator) tokens(host string) map[byte]string {
	m := e.machine
	user, port := m.User, "22"
	if s, ok := e.one["user"]; ok {
		user = s.args[0]
	}
	if s, ok := e.one["port"]; ok {
		if n, err := e.machine.port(s.args[0]); err == nil {
			port = strconv.Itoa(int(n))
		}
	}
	jump := ""
	if s, ok := e.one["proxyjump"]; ok && !strings.EqualFold(s.args[0], "none") {
		jump = s.args[0]
	}
	alias := e.original
	if s, ok := e.one["hostkeyalias"]; ok {
		alias = strings.ToLower(s.args[0])
	}
	short, _, _ := strings.Cut(m.Hostname, ".")
	sum := sha1.Sum([]byte(m.Hostname + host + port + user + jump)) //nolint:gosec // see above
	return map[byte]string{
		'C': hex.EncodeToString(sum[:]), 'd': m.Home, 'h': host, 'i': strconv.Itoa(m.UID), 'j': jump, 'k': alias,
		'L': short, 'l': m.Hostname, 'n': e.original, 'p': port, 'r': user, 'u': m.User,
	}
}

// only keeps some of the tokens.
func only(tokens map[byte]string, names string) map[byte]string {
	kept := map[byte]string{}
	for _, c := range []byte(names) {
		kept[c] = tokens[c]
	}
	return kept
}

// tilde puts the home directory in for "~". That of another user is not looked up.
func (m *Machine) tilde(path string) (string, error) {
	if path != "~" && !strings.HasPrefix(path, "~/") {
		if strings.HasPrefix(path, "~") {
			return "", fmt.Errorf("%q: only ~/ is known, not the homes of other users", path)
		}
		return path, nil
	}
	if m.Home == "" {
		return "", fmt.Errorf("%q: there is no home directory", path)
	}
	return filepath.Join(m.Home, path[1:]), nil
}
