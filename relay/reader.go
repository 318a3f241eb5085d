package relay

import (
	"io"
	"net"
	"sync"
)

// bufferSize holds the largest UDP datagram (65,507 bytes over IPv4, 65,527 over IPv6) and a good piece of a stream.
const bufferSize = 64 << 10

type buffer [bufferSize]byte

// buffers are shared by all sessions, so that one that waits holds none.
type buffers struct{ pool sync.Pool }

func (b *buffers) get() *buffer {
	if x := b.pool.Get(); x != nil {
		return x.(*buffer)
	}
	return new(buffer)
}

func (b *buffers) put(x *buffer) { b.pool.Put(x) }

// A reader reads a connection into a buffer that it has only while there is data. The slice it returns is good until
// release, which must come before the next read. A stream ends with io.EOF; a datagram may be empty.
type reader interface {
	read(limit int) ([]byte, error) // at most limit bytes
	release()
}

// plainReader reads any connection. It keeps its buffer, because it cannot know when data will come.
type plainReader struct {
	conn net.Conn
	buf  []byte
}

func (r *plainReader) read(limit int) ([]byte, error) {
	if r.buf == nil {
		r.buf = make([]byte, bufferSize)
	}
	n, err := r.conn.Read(r.buf[:min(limit, len(r.buf))])
	if n > 0 && err == io.EOF {
		err = nil // it comes again
	}
	return r.buf[:n], err
}

func (r *plainReader) release() {}
