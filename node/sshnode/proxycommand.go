package sshnode

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"time"
)

// A commandConn is the standard input and output of a ProxyCommand.
type commandConn struct {
	cmd  *exec.Cmd
	in   io.WriteCloser
	out  io.ReadCloser
	text string
	once sync.Once
	done chan struct{} // closed when the command has ended
}

// startProxy runs a command as ssh(1) does. What it says on standard error is logged.
func startProxy(text string, log *slog.Logger) (net.Conn, error) {
	cmd := exec.Command("/bin/sh", "-c", "exec "+text)
	if runtime.GOOS == "windows" {
		cmd = exec.Command("cmd", "/c", text)
	}
	fail := func(err error) (net.Conn, error) {
		return nil, fmt.Errorf("proxy command %q: %w", text, err)
	}
	in, err1 := cmd.StdinPipe()
	out, err2 := cmd.StdoutPipe()
	said, err3 := cmd.StderrPipe()
	if err := errors.Join(err1, err2, err3); err != nil {
		return fail(err)
	}
	if err := cmd.Start(); err != nil {
		return fail(err)
	}
	c := &commandConn{cmd: cmd, in: in, out: out, text: text, done: make(chan struct{})}
	go func() {
		lines := bufio.NewScanner(said)
		for lines.Scan() {
			log.Warn("the proxy command says", "text", clean(lines.Text()))
		}
	}()
	return c, nil
}

func (c *commandConn) Read(p []byte) (int, error)  { return c.out.Read(p) }
func (c *commandConn) Write(p []byte) (int, error) { return c.in.Write(p) }

// Close ends the command: it loses its input, and is killed.
func (c *commandConn) Close() error {
	c.once.Do(func() {
		_ = c.in.Close()
		_ = c.cmd.Process.Kill()
		_ = c.out.Close()
		_ = c.cmd.Wait()
		close(c.done)
	})
	return nil
}

func (c *commandConn) LocalAddr() net.Addr              { return nameAddr("ssh") }
func (c *commandConn) RemoteAddr() net.Addr             { return nameAddr(c.text) }
func (c *commandConn) SetDeadline(time.Time) error      { return os.ErrNoDeadline }
func (c *commandConn) SetReadDeadline(time.Time) error  { return os.ErrNoDeadline }
func (c *commandConn) SetWriteDeadline(time.Time) error { return os.ErrNoDeadline }
