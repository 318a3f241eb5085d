package ftp

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
)

// A reply of several lines begins with "123-" and ends with a line that begins with "123 " (RFC 959, section 4.2). Only the last
// line of a reply is looked at.

// replies carries what the server says until its end, or until the connection is opaque.
func (s *session) replies(ctx context.Context) error {
	var until []byte // the beginning of the line that ends a reply of several; nil: none is under way
	for whole := true; ; {
		line, err := s.fromServer.line()
		if len(line) == 0 {
			return err
		}
		began := whole
		whole = bytes.HasSuffix(line, []byte("\n"))
		last := began && isLast(line, &until)
		if last && transferBegins(line) {
			s.env.Connected(ctx)
		}
		s.mu.Lock()
		if last {
			err = errors.Join(err, s.last(ctx, line))
		} else if failed := s.say(line); failed != nil {
			err = failed
		}
		opaque := s.opaque
		s.mu.Unlock()
		if err != nil || opaque {
			return err
		}
	}
}

// isLast reports whether line, which begins one, is the last of a reply.
func isLast(line []byte, until *[]byte) bool {
	line = withoutTelnet(bytes.Clone(line[:min(len(line), 16)]))
	switch {
	case *until != nil:
		if !bytes.HasPrefix(line, *until) {
			return false
		}
		*until = nil
		return true
	case len(line) < 3 || !isDigits(line[:3]):
		return false // what is no reply is passed on all the same
	case len(line) > 3 && line[3] == '-':
		*until = append(line[:3:3], ' ')
		return false
	}
	return len(line) == 3 || line[3] == ' ' || line[3] == '\r' || line[3] == '\n'
}

// transferBegins reports whether a reply says that the data connection is used from now on (RFC 959, section 4.2.2).
func transferBegins(line []byte) bool {
	text := withoutTelnet(bytes.Clone(line[:min(len(line), 16)]))
	return bytes.HasPrefix(text, []byte("125")) || bytes.HasPrefix(text, []byte("150"))
}

func isDigits(b []byte) bool {
	return !slices.ContainsFunc(b, func(c byte) bool { return c < '0' || c > '9' })
}

// last passes on the last line of a reply, or another one in its place. The caller holds s.mu.
func (s *session) last(ctx context.Context, line []byte) error {
	text := withoutTelnet(line)
	code := string(text[:min(3, len(text))])
	if code[0] == '1' { // preliminary: there is another one to come
		return s.say(text)
	}
	switch k := s.answered(code); {
	case code == "227" && k == passive, code == "229" && (k == passive || k == extendedPassive):
		text = s.passive(ctx, code, k, text)
	case code == "234" && k == auth:
		s.opaque = true
	}
	return errors.Join(s.say(text), s.sayOwn())
}

// answered takes the command out of the queue that a reply is for. Servers differ in how many replies an ABOR has, so those that
// name a port or begin TLS go to the first command that asked for such. The caller holds s.mu.
func (s *session) answered(code string) kind {
	i := 0
	if wanted := kindsFor(code); wanted != nil {
		i = max(0, slices.IndexFunc(s.queue, func(c command) bool { return slices.Contains(wanted, c.kind) }))
	}
	for ; i > 0 && len(s.queue) > 0; i-- {
		if own := s.queue[0].reply; own != "" { // its turn has passed unnoticed
			_ = s.say([]byte(own + "\r\n"))
		}
		s.queue = s.queue[1:]
	}
	if len(s.queue) == 0 {
		return other // a reply that nobody asked for
	}
	k := s.queue[0].kind
	s.queue = s.queue[1:]
	s.changed.Broadcast()
	return k
}

func kindsFor(code string) []kind {
	switch code {
	case "227":
		return []kind{passive}
	case "229":
		return []kind{passive, extendedPassive}
	case "234":
		return []kind{auth}
	}
	return nil
}

// passive is the reply that tells the client of a port of ours instead of the server's. The caller holds s.mu.
func (s *session) passive(ctx context.Context, code string, k kind, text []byte) []byte {
	parse := parseExtendedPassive
	if code == "227" {
		parse = parsePassive
	}
	port, err := parse(bytes.TrimLeft(text[3:], " "))
	if err != nil || port < minPort {
		return []byte("425 The server has named no port that a data connection can use.\r\n")
	}
	at, err := s.env.Passive(ctx, port)
	if err != nil {
		return []byte("425 No port can be opened for a data connection.\r\n")
	}
	if k == passive {
		return fmt.Appendf(nil, "227 Entering Passive Mode (%s).\r\n", commas(at))
	}
	return fmt.Appendf(nil, "229 Entering Extended Passive Mode (|||%d|)\r\n", at.Port())
}
