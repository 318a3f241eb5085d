package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"

	"golang.org/x/term"
)

// terminalName is the terminal that belongs to the process, whatever its standard input is.
const terminalName = "/dev/tty"

// askTerminal returns what asks whoever sits at the terminal, or nil if there is none.
func askTerminal() func(ctx context.Context, prompt string, echo bool) (string, error) {
	tty, err := os.OpenFile(terminalName, os.O_RDWR, 0)
	if err != nil {
		return nil
	}
	_ = tty.Close()
	var one sync.Mutex
	return func(ctx context.Context, prompt string, echo bool) (string, error) {
		one.Lock()
		defer one.Unlock()
		return ask(ctx, prompt, echo)
	}
}

// ask reads one line. A question that nobody waits for any more goes on waiting for its line, and loses it: reading a
// terminal cannot be called off. The terminal echoes again all the same.
func ask(ctx context.Context, prompt string, echo bool) (string, error) {
	tty, err := os.OpenFile(terminalName, os.O_RDWR, 0)
	if err != nil {
		return "", fmt.Errorf("there is no terminal to ask on: %w", err)
	}
	fd := int(tty.Fd())
	before, err := term.GetState(fd)
	if err != nil {
		return "", errors.Join(err, tty.Close())
	}
	if _, err := io.WriteString(tty, prompt); err != nil {
		return "", errors.Join(err, tty.Close())
	}
	type answer struct {
		line string
		err  error
	}
	read := make(chan answer, 1)
	go func() {
		defer tty.Close()
		if !echo {
			line, err := term.ReadPassword(fd)
			read <- answer{string(line), err}
			return
		}
		line, err := bufio.NewReader(tty).ReadString('\n')
		read <- answer{strings.TrimRight(line, "\r\n"), err}
	}()
	select {
	case a := <-read:
		if !echo {
			fmt.Fprintln(os.Stderr)
		}
		return a.line, a.err
	case <-ctx.Done():
		_ = term.Restore(fd, before)
		return "", ctx.Err()
	}
}
