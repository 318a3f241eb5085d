package relay

import (
	"io"
	"net"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// newReader picks the reader that costs an idle conn the least.
func newReader(conn net.Conn, pool *buffers) reader {
	_, packet := conn.(*net.UDPConn)
	if c, ok := conn.(syscall.Conn); ok {
		if raw, err := c.SyscallConn(); err == nil {
			r := &socketReader{raw: raw, pool: pool, packet: packet}
			r.attempt = r.try // once: a method value is an allocation
			return r
		}
	}
	return &plainReader{conn: conn}
}

// socketReader waits for the socket first and takes a buffer from the pool when there is something to read.
type socketReader struct {
	raw     syscall.RawConn
	pool    *buffers
	packet  bool
	attempt func(fd uintptr) bool
	buf     *buffer
	limit   int
	n       int
	err     error
}

func (r *socketReader) read(limit int) ([]byte, error) {
	r.limit, r.n, r.err = min(limit, bufferSize), 0, nil
	if err := r.raw.Read(r.attempt); err != nil {
		return nil, err
	}
	if r.err != nil {
		return nil, os.NewSyscallError("read", r.err)
	}
	if r.n == 0 && !r.packet {
		return nil, io.EOF
	}
	return r.buf[:r.n], nil
}

// try reports whether the read is over; false makes the runtime wait until the socket is readable.
func (r *socketReader) try(fd uintptr) bool {
	if r.buf == nil {
		r.buf = r.pool.get()
	}
	for {
		r.n, r.err = unix.Read(int(fd), r.buf[:r.limit])
		if r.err != unix.EINTR {
			break
		}
	}
	if r.err == unix.EAGAIN {
		r.release()
		return false
	}
	if r.err != nil {
		r.n = 0
		r.release()
	}
	return true
}

func (r *socketReader) release() {
	if r.buf != nil {
		r.pool.put(r.buf)
		r.buf = nil
	}
}
