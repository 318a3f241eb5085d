package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"sync"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"
	"golang.org/x/term"

	"github.com/fairlead-net/fairlead/node/sshnode/sshconfig"
)

// An sshSession is a shell, a command or a subsystem at the server, wired to this program's own input and output.
type sshSession struct {
	host    *sshconfig.Host
	command string // "" is a shell
	log     *sshVoice
	in, out *os.File
	errs    io.Writer

	mu    sync.Mutex
	saved *term.State // of the terminal, while it is raw
}

// run returns the exit status of the command.
func (s *sshSession) run(ctx context.Context, client *ssh.Client) (int, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ch, err := openSSH(ctx, client, "session", nil)
	if err != nil {
		return exitSSH, fmt.Errorf("session: %w", err)
	}
	defer ch.Close()
	s.forwardAgent(client, ch)
	tty, err := s.requestTerminal(ch)
	if err != nil {
		return exitSSH, err
	}
	s.sendEnv(ch)
	if err := s.start(ch); err != nil {
		return exitSSH, err
	}
	var in io.Reader = s.in
	if s.host.StdinNull {
		in = bytes.NewReader(nil)
	}
	if tty {
		defer s.cook()
		s.raw()
		ended := s.followSize(ctx, ch)
		defer func() {
			cancel()
			<-ended
		}()
		if !s.host.StdinNull {
			in = s.typed(cancel)
		}
	}
	err = ch.carry(ctx, in, s.out, s.errs)
	s.cook()
	switch {
	case errors.Is(err, context.Canceled):
		if tty {
			s.log.info("Connection to %s closed.", s.host.Hostname)
		}
		return exitSSH, nil // by a signal, or by ~.
	case err != nil:
		return exitSSH, err
	case ch.status >= 0:
		if tty {
			s.log.info("Connection to %s closed.", s.host.Hostname)
		}
		return ch.status, nil
	case ch.signal == "" && s.host.SessionType != "subsystem":
		s.log.warn("Connection to %s closed by remote host.", s.host.Hostname)
	case tty:
		s.log.info("Connection to %s closed.", s.host.Hostname)
	}
	return exitSSH, nil
}

func (s *sshSession) start(ch *sshChannel) error {
	switch {
	case s.host.SessionType == "subsystem":
		if s.command == "" {
			return errors.New("a subsystem needs a name, such as sftp")
		}
		return ch.ask("subsystem", struct{ Name string }{s.command})
	case s.command != "":
		return ch.ask("exec", struct{ Command string }{s.command})
	}
	return ch.ask("shell", nil)
}

// forwardAgent has the server's programs use the agent here, where that is wanted.
func (s *sshSession) forwardAgent(client *ssh.Client, ch *sshChannel) {
	socket := s.host.ForwardAgent
	switch socket {
	case "no":
		return
	case "yes":
		socket = os.Getenv("SSH_AUTH_SOCK")
	}
	if socket == "" {
		s.log.debug("there is no agent to forward: SSH_AUTH_SOCK is not set")
		return
	}
	err := agent.ForwardToRemote(client, socket)
	if err == nil {
		err = ch.ask("auth-agent-req@openssh.com", nil)
	}
	if err != nil {
		s.log.warn("the agent is not forwarded: %v", err)
	}
}

// sendEnv sends what SendEnv and SetEnv name. Servers take few of them, and do not have to answer.
func (s *sshSession) sendEnv(ch *sshChannel) {
	send := func(pair string) {
		name, value, _ := strings.Cut(pair, "=")
		_, _ = ch.SendRequest("env", false, ssh.Marshal(struct{ Name, Value string }{name, value}))
	}
	for _, pair := range os.Environ() {
		name, _, _ := strings.Cut(pair, "=")
		for _, pattern := range s.host.SendEnv {
			if sshconfig.MatchPattern(name, pattern) {
				send(pair)
				break
			}
		}
	}
	for _, pair := range s.host.SetEnv {
		if !strings.HasPrefix(pair, "TERM=") { // it goes with the terminal
			send(pair)
		}
	}
}

// requestTerminal asks for a terminal where one is wanted, and reports whether there is one.
func (s *sshSession) requestTerminal(ch *sshChannel) (bool, error) {
	local := term.IsTerminal(int(s.in.Fd())) && !s.host.StdinNull
	switch s.host.RequestTTY {
	case "no":
		return false, nil
	case "force":
	default:
		if s.host.RequestTTY == "auto" && s.command != "" {
			return false, nil
		}
		if !local {
			if s.host.SessionType != "subsystem" {
				s.log.warn("Pseudo-terminal will not be allocated because stdin is not a terminal.")
			}
			return false, nil
		}
	}
	name := os.Getenv("TERM")
	for _, pair := range s.host.SetEnv {
		if value, ok := strings.CutPrefix(pair, "TERM="); ok {
			name = value
		}
	}
	request := struct {
		Term                         string
		Columns, Rows, Width, Height uint32
		Modes                        string
	}{Term: name}
	modes := ssh.TerminalModes{}
	if local {
		request.Columns, request.Rows = s.size()
		modes = terminalModes(int(s.in.Fd()))
	}
	request.Modes = encodeModes(modes)
	if err := ch.ask("pty-req", request); err != nil {
		if s.host.RequestTTY == "force" || s.command == "" {
			s.log.warn("PTY allocation request failed")
		}
		return false, nil //nolint:nilerr // without a terminal, as OpenSSH does
	}
	return true, nil
}

// plainModes are those of a terminal that nothing is known of.
func plainModes() ssh.TerminalModes {
	return ssh.TerminalModes{ssh.ECHO: 1, ssh.ISIG: 1, ssh.ICANON: 1, ssh.TTY_OP_ISPEED: 38400, ssh.TTY_OP_OSPEED: 38400}
}

// encodeModes writes modes as RFC 4254, section 8, has them.
func encodeModes(modes ssh.TerminalModes) string {
	var b []byte
	for mode, value := range modes {
		b = append(b, mode, byte(value>>24), byte(value>>16), byte(value>>8), byte(value))
	}
	return string(append(b, 0)) // TTY_OP_END
}

func (s *sshSession) size() (columns, rows uint32) {
	w, h, err := term.GetSize(int(s.in.Fd()))
	if err != nil || w < 0 || h < 0 {
		return 80, 24
	}
	return uint32(w), uint32(h) //nolint:gosec // checked above
}

// followSize tells the server of each change of the terminal's size until ctx ends; then the returned channel is closed.
func (s *sshSession) followSize(ctx context.Context, ch *sshChannel) <-chan struct{} {
	changes := make(chan os.Signal, 1)
	notifyResize(changes)
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer signal.Stop(changes)
		for {
			select {
			case <-changes:
				var m struct{ Columns, Rows, Width, Height uint32 }
				m.Columns, m.Rows = s.size()
				_, _ = ch.SendRequest("window-change", false, ssh.Marshal(m))
			case <-ctx.Done():
				return
			}
		}
	}()
	return done
}

// raw hands every key to the server; cook takes that back.
func (s *sshSession) raw() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.saved == nil && term.IsTerminal(int(s.in.Fd())) {
		s.saved, _ = term.MakeRaw(int(s.in.Fd()))
		s.log.setRaw(s.saved != nil)
	}
}

func (s *sshSession) cook() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.saved != nil {
		_ = term.Restore(int(s.in.Fd()), s.saved)
		s.saved = nil
		s.log.setRaw(false)
	}
}

// typed is the standard input with escapes taken out and obeyed.
func (s *sshSession) typed(end func()) io.Reader {
	t := &typedReader{session: s, end: end}
	if s.host.EscapeChar != "none" {
		t.filter.char = s.host.EscapeChar[0]
	}
	return t
}

// A typedReader reads keys and obeys escapes.
type typedReader struct {
	session *sshSession
	end     func()
	filter  escaper
	more    []byte // typed and not yet looked at
}

func (t *typedReader) Read(p []byte) (int, error) {
	for {
		if len(t.more) == 0 {
			buffer := make([]byte, max(len(p)-1, 1)) // an escape character that is none is one byte more
			n, err := t.session.in.Read(buffer)
			if n == 0 {
				return 0, err
			}
			t.more = buffer[:n]
		}
		out, escape, rest := t.filter.feed(t.more)
		t.more = rest
		t.obey(escape)
		if len(out) > 0 {
			return copy(p, out), nil
		}
		if escape == escapeEnd {
			return 0, io.EOF
		}
	}
}

func (t *typedReader) obey(escape byte) {
	s := t.session
	switch escape {
	case escapeEnd:
		t.end()
	case escapeSuspend:
		s.cook()
		suspend()
		s.raw()
	case escapeHelp:
		c := s.host.EscapeChar
		s.log.say("%s? Supported escape sequences:\n %s.   - end the connection\n %s^Z  - suspend\n %s?   - this text\n %s%s   - send the escape character",
			c, c, c, c, c, c)
	}
}
