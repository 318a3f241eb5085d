package sshchan

import (
	"io"
	"sync"
)

// sizes are those of buffers: a direction that is silent holds the first, one that is busy a larger one. The second is the
// data of one packet (RFC 4254, section 5.2, as x/crypto and OpenSSH fill them).
var sizes = [...]int{4 << 10, 32 << 10, 128 << 10, 256 << 10}

// largest is that of a channel's buffers. The last is for connections.
const largest = 2

var pools [len(sizes)]sync.Pool

// A buffer is one of a pool.
type buffer struct {
	storage []byte
	class   int // in sizes
}

func newBuffer(class int) *buffer {
	if b, ok := pools[class].Get().(*buffer); ok {
		return b
	}
	return &buffer{make([]byte, sizes[class]), class}
}

// free gives the buffer back. Nobody may use it any more.
func (b *buffer) free() { pools[b.class].Put(b) }

// fitting is the class of the next buffer, at most the last, after n bytes came into one of this class.
func fitting(class, n, last int) int {
	switch {
	case n == sizes[class]:
		return min(class+1, last)
	case class > 0 && n <= sizes[class-1]:
		return class - 1
	}
	return class
}

// Copy is io.Copy with a buffer of the size that the traffic has. The error is nil at the end of from.
func Copy(to io.Writer, from io.Reader) error {
	for class := 0; ; {
		b := newBuffer(class)
		n, err := from.Read(b.storage)
		var failed error
		if n > 0 {
			_, failed = to.Write(b.storage[:n])
		}
		b.free()
		switch {
		case failed != nil:
			return failed
		case err == io.EOF:
			return nil
		case err != nil:
			return err
		}
		class = fitting(class, n, largest)
	}
}
