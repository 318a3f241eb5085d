package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"
)

// converse FILE STATUS PROGRAM ARG...: runs a program in a terminal. Lines of FILE are "send TEXT", "want PATTERN" of what it
// has said since the last one, and "resize ROWS COLUMNS". In the end it has to exit with STATUS.
func scriptConverse(ts *testscript.TestScript, _ bool, args []string) {
	master, slave, err := openPTY()
	ts.Check(err)
	defer master.Close()
	ts.Check(unix.IoctlSetWinsize(int(master.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 24, Col: 80}))
	program := args[2:]
	path, err := exec.LookPath(strings.Split(ts.Getenv("PATH"), ":")[0] + "/" + program[0])
	ts.Check(err)
	cmd := exec.Command(path, program[1:]...)
	cmd.Dir, cmd.Env = ts.MkAbs("."), []string{"PATH=" + ts.Getenv("PATH"), "HOME=" + ts.Getenv("HOME"), "TERM=vt100"}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	ts.Check(cmd.Start())
	_ = slave.Close()
	said := hear(master)
	exited := make(chan error, 1)
	go func() { exited <- cmd.Wait() }()
	for line := range strings.Lines(ts.ReadFile(args[0])) {
		verb, rest, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		switch verb {
		case "send":
			_, err := master.WriteString(strings.ReplaceAll(rest, `\r`, "\r"))
			ts.Check(err)
		case "want":
			if !said.wait(regexp.MustCompile(rest)) {
				_ = cmd.Process.Kill()
				ts.Fatalf("it does not say %q; it said %q", rest, said.all())
			}
		case "resize":
			var size unix.Winsize
			_, err := fmt.Sscan(rest, &size.Row, &size.Col)
			ts.Check(err)
			ts.Check(unix.IoctlSetWinsize(int(master.Fd()), unix.TIOCSWINSZ, &size))
		default:
			ts.Fatalf("%q is no line of a conversation", line)
		}
	}
	select {
	case <-exited:
	case <-time.After(patience):
		_ = cmd.Process.Kill()
		ts.Fatalf("it does not end; it said %q", said.all())
	}
	if got := strconv.Itoa(cmd.ProcessState.ExitCode()); got != args[1] {
		ts.Fatalf("exit code %s, want %s; it said %q", got, args[1], said.all())
	}
	if strings.Contains(said.all(), "secret") {
		ts.Fatalf("what was typed unseen is shown: %q", said.all())
	}
}

// openPTY opens a terminal of both ends.
func openPTY() (master, slave *os.File, err error) {
	master, err = os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		return nil, nil, err
	}
	n, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0)
	}
	if err == nil {
		slave, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|syscall.O_NOCTTY, 0)
	}
	if err != nil {
		_ = master.Close()
	}
	return master, slave, err
}

// A hearing is what a terminal shows.
type hearing struct {
	mu   sync.Mutex
	text bytes.Buffer
	seen int // up to here a pattern has matched
}

func hear(terminal *os.File) *hearing {
	h := new(hearing)
	go func() {
		buffer := make([]byte, 4096)
		for {
			n, err := terminal.Read(buffer)
			h.mu.Lock()
			h.text.Write(buffer[:n])
			h.mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
	return h
}

func (h *hearing) all() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.text.String()
}

// wait waits until the pattern matches what was not matched yet.
func (h *hearing) wait(pattern *regexp.Regexp) bool {
	return retry(func() bool {
		h.mu.Lock()
		defer h.mu.Unlock()
		at := pattern.FindIndex(h.text.Bytes()[h.seen:])
		if at != nil {
			h.seen += at[1]
		}
		return at != nil
	})
}
