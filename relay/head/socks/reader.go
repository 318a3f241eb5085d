package socks

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"time"
)

// A reader reads the messages of one client: few system calls, since a message comes as a whole as a rule, and never more
// memory than its buffer. What the client sends beyond its messages stays in it.
type reader struct {
	conn   net.Conn
	filled int
	used   int
	buf    [1024]byte // the longest message is the login, of 513 bytes; SOCKS 4 is held to maxText
}

// peek waits until the client has sent n bytes more, and returns them, which are valid until the next call.
func (r *reader) peek(n int) ([]byte, error) {
	for r.filled-r.used < n {
		if err := r.fill(); err != nil {
			return nil, err
		}
	}
	return r.buf[r.used : r.used+n], nil
}

// take is peek, and goes on behind it.
func (r *reader) take(n int) ([]byte, error) {
	b, err := r.peek(n)
	if err == nil {
		r.used += n
	}
	return b, err
}

// maxText is how long the texts of SOCKS 4 may be, which end with a zero byte.
const maxText = 255

// takeText reads such a text.
func (r *reader) takeText() (string, error) {
	for {
		if n := bytes.IndexByte(r.buf[r.used:r.filled], 0); n >= 0 && n <= maxText {
			b, err := r.take(n + 1)
			return string(b[:n]), err
		}
		if r.filled-r.used > maxText {
			return "", fmt.Errorf("%w: a text of SOCKS 4 is longer than %d bytes", ErrProtocol, maxText)
		}
		if err := r.fill(); err != nil {
			return "", err
		}
	}
}

// fill reads once.
func (r *reader) fill() error {
	if r.used > 0 {
		r.filled = copy(r.buf[:], r.buf[r.used:r.filled])
		r.used = 0
	}
	n, err := r.conn.Read(r.buf[r.filled:])
	r.filled += n
	switch {
	case n > 0:
		return nil // the error comes again, if it matters
	case err == nil:
		return io.ErrNoProgress
	case errors.Is(err, io.EOF) && r.filled > 0:
		return io.ErrUnexpectedEOF
	}
	return err
}

// rest is what the client has sent ahead.
func (r *reader) rest() []byte { return slices.Clone(r.buf[r.used:r.filled]) }

func (r *reader) write(b []byte) error {
	if _, err := r.conn.Write(b); err != nil {
		return fmt.Errorf("answer the client: %w", err)
	}
	return nil
}

// watch goes on reading until stop is called, and calls gone when the client has ended meanwhile. When the buffer is full it
// looks no further, and what a client says before that stays in the buffer.
func (r *reader) watch(gone func()) (stop func()) {
	var done sync.WaitGroup
	done.Go(func() {
		for r.filled-r.used < len(r.buf) {
			if err := r.fill(); err != nil {
				gone()
				return
			}
		}
	})
	return func() {
		_ = r.conn.SetReadDeadline(longAgo())
		done.Wait()
		_ = r.conn.SetReadDeadline(time.Time{})
	}
}

// longAgo is a deadline that ends what is being read.
func longAgo() time.Time { return time.Unix(1, 0) }
