package api

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// MaxConns is the number of connections that the control socket serves at once. More wait in the kernel's queue until one
// of them ends or runs into a deadline.
const MaxConns = 64

// A RunningError says that another daemon answers at the socket.
type RunningError struct{ Path string }

func (e *RunningError) Error() string {
	return "another fairlead already runs here: it answers at " + e.Path
}

// Advice is what to do about e.
func (e *RunningError) Advice() string {
	return "`fairlead status` shows it and `fairlead down` ends it; a second daemon needs its own --socket and --state"
}

// A Listener is the control socket. Accept hands out only connections of root and of this process's own user.
type Listener struct {
	*net.UnixListener
	path    string
	madeDir string // the directory that Listen made, or ""
	lock    *os.File
	slots   chan struct{}
	closing chan struct{}
	once    sync.Once
}

// Listen makes the control socket, open to this process's user and root alone. A socket file that nobody answers at is
// left over from a killed daemon and is replaced; one that is answered is a *RunningError.
func Listen(path string) (*Listener, error) {
	l := &Listener{path: path, slots: make(chan struct{}, MaxConns), closing: make(chan struct{})}
	if err := l.makeDir(); err != nil {
		return nil, err
	}
	var err error
	if l.lock, err = lock(path + ".lock"); err != nil {
		if errors.Is(err, errLocked) {
			return nil, &RunningError{Path: path}
		}
		return nil, fmt.Errorf("control socket: %w", err)
	}
	if err := removeStale(path); err != nil {
		l.unlock()
		return nil, err
	}
	if l.UnixListener, err = bindPrivate(path); err != nil {
		l.unlock()
		return nil, fmt.Errorf("control socket: %w", err)
	}
	return l, nil
}

func (l *Listener) makeDir() error {
	dir, mode := filepath.Dir(l.path), fs.FileMode(0o700)
	if os.Geteuid() == 0 {
		mode = 0o755 // others may look, the socket itself is closed to them
	}
	if _, err := os.Stat(dir); err == nil {
		return nil
	}
	if err := os.MkdirAll(dir, mode); err != nil {
		return fmt.Errorf("control socket: %w", err)
	}
	l.madeDir = dir
	return nil
}

// removeStale takes away a socket file at which nobody answers.
func removeStale(path string) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("control socket: %w", err)
	case info.Mode()&fs.ModeSocket == 0:
		return fmt.Errorf("control socket: %s is there already and is no socket", path)
	}
	if c, err := net.DialTimeout("unix", path, time.Second); err == nil {
		c.Close()
		return &RunningError{Path: path}
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("control socket: removing a stale one: %w", err)
	}
	return nil
}

// Chown hands the socket, its lock and the directory that Listen made to another user, so that a daemon that becomes that
// user can still remove them.
func (l *Listener) Chown(uid, gid int) error {
	var errs []error
	for _, path := range []string{l.path, l.path + ".lock", l.madeDir} {
		if path != "" {
			errs = append(errs, os.Lchown(path, uid, gid))
		}
	}
	return errors.Join(errs...)
}

// Accept waits for a free place and then for a connection of root or of this process's own user; others are closed without
// taking a place.
func (l *Listener) Accept() (net.Conn, error) {
	select {
	case l.slots <- struct{}{}:
	case <-l.closing:
		return nil, net.ErrClosed
	}
	for {
		c, err := l.AcceptUnix()
		if err != nil {
			<-l.slots
			return nil, err
		}
		if allowed(c) {
			return &conn{UnixConn: c, slots: l.slots}, nil
		}
		c.Close()
	}
}

// Close closes and removes the socket.
func (l *Listener) Close() error {
	err := net.ErrClosed
	l.once.Do(func() {
		close(l.closing)
		err = l.UnixListener.Close()
		l.unlock()
	})
	return err
}

func (l *Listener) unlock() {
	if l.lock != nil {
		l.lock.Close() // the lock goes with the descriptor
	}
}

type conn struct {
	*net.UnixConn
	slots chan struct{}
	once  sync.Once
}

// Close gives the place back.
func (c *conn) Close() error {
	err := net.ErrClosed
	c.once.Do(func() {
		err = c.UnixConn.Close()
		<-c.slots
	})
	return err
}
