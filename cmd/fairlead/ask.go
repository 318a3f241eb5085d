package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"unicode/utf8"

	"golang.org/x/term"
)

// maxPassword is the longest that a client can say (RFC 1929, section 2).
const maxPassword = 255

// readPassword asks for a password twice where in is a terminal, else it is the first line of in.
func readPassword(ctx context.Context, name string, in *os.File, prompts io.Writer) (string, error) {
	if in == nil {
		return "", errors.New("there is no standard input to read a password from")
	}
	if !term.IsTerminal(int(in.Fd())) {
		line, err := bufio.NewReader(io.LimitReader(in, 4*maxPassword)).ReadString('\n')
		if err != nil && !errors.Is(err, io.EOF) {
			return "", fmt.Errorf("reading the password from standard input: %w", err)
		}
		return checkPassword(strings.TrimRight(line, "\r\n"))
	}
	first, err := askHidden(ctx, in, prompts, "Password for "+name+": ")
	if err != nil {
		return "", err
	}
	if _, err := checkPassword(first); err != nil {
		return "", err
	}
	again, err := askHidden(ctx, in, prompts, "Once more: ")
	if err != nil {
		return "", err
	}
	if first != again {
		return "", advise(errors.New("the two passwords differ"), "nothing was changed; try again")
	}
	return first, nil
}

func checkPassword(s string) (string, error) {
	switch {
	case s == "":
		return "", advise(errors.New("the password is empty"), "type one, or give it as the first line of standard input")
	case len(s) > maxPassword:
		return "", advise(errors.New("the password is too long"), fmt.Sprintf("SOCKS clients can say %d bytes", maxPassword))
	case !utf8.ValidString(s) || strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f }):
		return "", advise(errors.New("the password has bytes that cannot be typed"), "it is one line of UTF-8 text")
	}
	return s, nil
}

// askHidden reads a line that does not show. Reading from a terminal cannot be called off: when ctx ends, the one who reads
// stays behind until the program has ended, which it does then.
func askHidden(ctx context.Context, in *os.File, prompts io.Writer, prompt string) (string, error) {
	fd := int(in.Fd())
	before, err := term.GetState(fd)
	if err != nil {
		return "", fmt.Errorf("reading a password: %w", err)
	}
	fmt.Fprint(prompts, prompt)
	type answer struct {
		text []byte
		err  error
	}
	answered := make(chan answer, 1)
	go func() {
		text, err := term.ReadPassword(fd)
		answered <- answer{text, err}
	}()
	select {
	case a := <-answered:
		fmt.Fprintln(prompts)
		if errors.Is(a.err, io.EOF) {
			return "", advise(errors.New("no password was typed"), "nothing was changed")
		}
		return string(a.text), a.err
	case <-ctx.Done():
		fmt.Fprintln(prompts)
		return "", errors.Join(errors.New("broken off; nothing was changed"), term.Restore(fd, before))
	}
}
