package ftp

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"
)

// A command is what a client said and has no reply to yet.
type command struct {
	kind  kind
	reply string // said by us when its turn comes; "": the server replies
}

// A kind is what a reply may mean.
type kind uint8

const (
	other           kind = iota
	passive              // PASV: the client expects 227
	extendedPassive      // EPSV: the client expects 229
	auth                 // AUTH
)

// tlsHandshake is the first byte of TLS (RFC 8446, section 5.1), and of no command.
const tlsHandshake = 0x16

// commands carries what the client says until its end.
func (s *session) commands(ctx context.Context) error {
	first, err := s.fromClient.peek()
	if err == nil && first == tlsHandshake {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.opaque = true
		return s.server.SetReadDeadline(past()) // nothing is being read but a greeting, which will not come
	}
	for whole := true; err == nil; {
		var line []byte
		line, err = s.fromClient.line()
		if len(line) == 0 {
			break
		}
		s.env.Count(len(line), 0)
		began := whole
		whole = bytes.HasSuffix(line, []byte("\n"))
		if !began {
			continue // the rest of a line that was refused
		}
		if err == nil || errors.Is(err, io.EOF) {
			if failed := s.command(ctx, line, whole); failed != nil {
				if errors.Is(failed, errOpaque) {
					return nil
				}
				err = failed
			}
		}
	}
	if errors.Is(err, io.EOF) {
		_ = closeWrite(s.server)
		return nil
	}
	_ = s.server.SetReadDeadline(past()) // the client is gone, or what it says cannot be passed on
	return err
}

// command passes one line on, or another one in its place, or answers it.
func (s *session) command(ctx context.Context, line []byte, whole bool) error {
	switch {
	case !whole && len(line) >= maxLine:
		return s.answer("500 This line is too long.")
	case bytes.IndexByte(line, 0) >= 0:
		return s.answer("500 A byte of this line has no place in a command.")
	}
	line = withoutTelnet(line)
	verb, argument := split(string(line))
	c := command{}
	switch strings.ToUpper(verb) {
	case "PORT", "EPRT":
		return s.active(ctx, strings.ToUpper(verb), argument)
	case "PASV":
		if s.ends.Client.Is6() {
			return s.answer("425 PASV is for IPv4 alone; use EPSV.")
		}
		c.kind = passive
		if s.ends.Server.Is6() {
			line = []byte("EPSV\r\n")
		}
	case "EPSV":
		switch argument = strings.TrimSpace(argument); {
		case argument == "" || s.ends.Server == netip.Addr{}:
			c.kind = extendedPassive
		case strings.EqualFold(argument, "ALL"): // there will be no PORT, PASV and EPRT, and all but EPSV ALL stays to be refused by the server
		case argument != fmt.Sprint(protocolOf(s.ends.Client)):
			return s.answer(s.useOther())
		default:
			c.kind = extendedPassive
			line = fmt.Appendf(nil, "EPSV %d\r\n", protocolOf(s.ends.Server))
		}
	case "LPRT", "LPSV": // RFC 1639
		return s.answer("502 Not possible here; use EPRT and EPSV.")
	case "AUTH":
		c.kind = auth
	}
	if err := s.send(c, line); err != nil || c.kind != auth {
		return err
	}
	return s.awaitAuth()
}

// split takes a line apart. Servers do not mind white space before a command.
func split(line string) (verb, argument string) {
	line = strings.Trim(line, " \t\r\n")
	i := strings.IndexAny(line, " \t")
	if i < 0 {
		return line, ""
	}
	return line[:i], strings.TrimLeft(line[i:], " \t")
}

// active has a port opened for the server to call, and tells it that one. A server that is called by IPv4 is told by PORT, which
// every server knows, unless the client has said EPRT by IPv4 itself.
func (s *session) active(ctx context.Context, verb, argument string) error {
	parse := parsePort
	if verb == "EPRT" {
		parse = parseExtended
	}
	to, err := parse(argument)
	switch {
	case errors.Is(err, errProtocol):
		return s.answer(s.useOther())
	case err != nil:
		return s.answer("501 This is no address and port.")
	case to.Addr() != s.ends.Client:
		return s.answer("500 Data connections lead to the client itself.") // RFC 2577, section 3
	case to.Port() < minPort:
		return s.answer("504 Data connections use ports from 1024 on.")
	}
	at, err := s.env.Active(ctx, to.Port())
	switch {
	case errors.Is(err, ErrUnfit):
		return s.answer("502 The server cannot call back by this way; use passive mode.")
	case err != nil:
		return s.answer("425 No port can be opened for a data connection.")
	case at.Addr().Is4() && (verb == "PORT" || s.ends.Client.Is6()):
		return s.send(command{}, []byte("PORT "+commas(at)+"\r\n"))
	}
	return s.send(command{}, []byte("EPRT "+extended(at)+"\r\n"))
}

// useOther refuses a network protocol (RFC 2428, section 2).
func (s *session) useOther() string {
	return fmt.Sprintf("522 Network protocol not supported, use (%d)", protocolOf(s.ends.Client))
}

// send passes a command on. Its reply cannot come before it is in the queue.
func (s *session) send(c command, line []byte) error {
	s.mu.Lock()
	if !s.room() {
		s.mu.Unlock()
		return io.EOF
	}
	s.queue = append(s.queue, c)
	s.mu.Unlock()
	_, err := s.server.Write(line)
	return err
}

// answer says something to the client in the server's place, in turn.
func (s *session) answer(text string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.room() {
		return io.EOF
	}
	s.queue = append(s.queue, command{reply: text})
	return s.sayOwn()
}

// room waits until there is room in the queue, or reports that there will be none. The caller holds s.mu.
func (s *session) room() bool {
	for len(s.queue) >= maxOutstanding && !s.ended {
		s.changed.Wait()
	}
	return !s.ended
}

// sayOwn says what is ours to say now. The caller holds s.mu.
func (s *session) sayOwn() error {
	for len(s.queue) > 0 && s.queue[0].reply != "" {
		text := s.queue[0].reply + "\r\n"
		s.queue = s.queue[1:]
		if err := s.say([]byte(text)); err != nil {
			return err
		}
	}
	s.changed.Broadcast()
	return nil
}

// say writes to the client. The caller holds s.mu.
func (s *session) say(line []byte) error {
	n, err := s.client.Write(line)
	s.env.Count(0, n)
	return err
}

// errOpaque is the end of commands that can be read.
var errOpaque = errors.New("the connection is TLS from here on")

// awaitAuth waits for the reply to AUTH: what the client says next may be TLS.
func (s *session) awaitAuth() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	waits := func(c command) bool { return c.kind == auth }
	for !s.opaque && !s.ended && slices.ContainsFunc(s.queue, waits) {
		s.changed.Wait()
	}
	if s.opaque {
		return errOpaque
	}
	return nil
}
