package link

import (
	"io"
	"net"
	"sync"
	"syscall"
)

// The buffers beneath TLS. They are there only while there is something in them: a link that is idle costs none.
const (
	outSize = 128 << 10 // as many records as go out with one write(2)
	inSize  = 128 << 10 // as many as come in with one read(2)
)

// A pool lends buffers of one size.
type pool struct{ free sync.Pool }

func (p *pool) get(size int) []byte {
	if b, ok := p.free.Get().(*[]byte); ok {
		return *b
	}
	return make([]byte, size)
}

func (p *pool) put(b []byte) { p.free.Put(&b) }

var outPool, inPool pool

// A holder is the connection beneath a TLS connection. It holds back what is written until flush, since TLS writes each record of 16 KiB by
// itself, and reads ahead, since TLS asks for a header and then for the record.
type holder struct {
	net.Conn
	raw  syscall.RawConn // nil: Conn is not read ahead
	fill func(fd uintptr) bool

	mu   sync.Mutex
	held []byte // nil: nothing
	used int
	hold bool  // false until the handshake is over
	err  error // of a write; there is no going on after that, since a record may have been cut

	ahead     []byte // nil: nothing. Of the goroutine that reads, as all below
	next, end int
	got       int
	gotErr    error
	noMore    bool // what is not ahead is not read now
}

// readAhead begins to read ahead from a socket, which is what Conn reads from in the end.
func (h *holder) readAhead(c *net.TCPConn) {
	if !canFill || c == nil {
		return
	}
	if raw, err := c.SyscallConn(); err == nil {
		h.raw = raw
		h.fill = h.fillOnce
	}
}

func (h *holder) Write(p []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.err != nil {
		return 0, h.err
	}
	if !h.hold {
		n, err := h.Conn.Write(p)
		h.err = err
		return n, err
	}
	if h.used+len(p) > outSize {
		if err := h.flushLocked(); err != nil {
			return 0, err
		}
	}
	if len(p) > outSize { // TLS has no such records
		n, err := h.Conn.Write(p)
		h.err = err
		return n, err
	}
	if h.held == nil {
		h.held = outPool.get(outSize)
	}
	h.used += copy(h.held[h.used:], p)
	return len(p), nil
}

// flush writes what is held.
func (h *holder) flush() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.flushLocked()
}

func (h *holder) flushLocked() error {
	if h.used > 0 && h.err == nil {
		_, h.err = h.Conn.Write(h.held[:h.used])
	}
	if h.held != nil {
		outPool.put(h.held)
		h.held, h.used = nil, 0
	}
	return h.err
}

// holdOn begins to hold back what is written: from here on somebody flushes.
func (h *holder) holdOn() {
	h.mu.Lock()
	h.hold = true
	h.mu.Unlock()
}

// holdOff ends that, and writes what is held.
func (h *holder) holdOff() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.hold = false
	return h.flushLocked()
}

func (h *holder) Read(p []byte) (int, error) {
	if h.raw == nil {
		return h.Conn.Read(p)
	}
	if h.ahead == nil {
		if h.noMore {
			return 0, errNotNow
		}
		h.gotErr = nil
		if err := h.raw.Read(h.fill); err != nil {
			return 0, err
		}
		if h.gotErr != nil {
			return 0, h.gotErr
		}
		if h.got == 0 {
			return 0, io.EOF
		}
		h.next, h.end = 0, h.got
	}
	n := copy(p, h.ahead[h.next:h.end])
	if h.next += n; h.next == h.end {
		inPool.put(h.ahead)
		h.ahead = nil
	}
	return n, nil
}

// rest reads from above, which reads from h, what can be had without waiting. An error of above comes again with the next read.
func (h *holder) rest(above io.Reader, p []byte) (n int) {
	h.noMore = true
	for n < len(p) && h.ahead != nil {
		m, err := above.Read(p[n:])
		if n += m; err != nil {
			break
		}
	}
	h.noMore = false
	return n
}

// notNow is an error after which TLS can be read again, as after a deadline.
type notNow struct{}

var errNotNow net.Error = notNow{}

func (notNow) Error() string   { return "nothing more has come" }
func (notNow) Timeout() bool   { return true }
func (notNow) Temporary() bool { return true }
