package tunnel

import (
	"errors"
	"io"
	"testing"
	"time"

	"github.com/fairlead-net/fairlead/tunnel/wire"
)

// A said lane has what somebody says. Like TLS and QUIC it has nothing to say to who has no room.
type said struct{ rest []byte }

func (l *said) Read(p []byte) (int, error) {
	if len(p) > 0 && len(l.rest) == 0 {
		return 0, io.EOF
	}
	n := copy(p, l.rest)
	l.rest = l.rest[n:]
	return n, nil
}

func (*said) Write(p []byte) (int, error)      { return len(p), nil }
func (*said) Flush() error                     { return nil }
func (*said) SetReadDeadline(time.Time) error  { return nil }
func (*said) SetWriteDeadline(time.Time) error { return nil }
func (*said) Close() error                     { return nil }

// TestLongestGreeting reads a HELLO whose head and body are as long as they may be, and one that stops short of that.
func TestLongestGreeting(t *testing.T) {
	head := []byte{byte(wire.TypeHello), 0xc0, 0, 0, 0, 0, 0, wire.MaxGreeting >> 8, wire.MaxGreeting & 0xff}
	for _, c := range []struct {
		body int
		want error
	}{{wire.MaxGreeting, nil}, {wire.MaxGreeting + 1, nil}, {wire.MaxGreeting - 1, io.EOF}} {
		_, body, _, err := readGreeting(&said{append(head[:len(head):len(head)], make([]byte, c.body)...)})
		if !errors.Is(err, c.want) || err == nil && len(body) != wire.MaxGreeting {
			t.Errorf("%d bytes follow the head: a body of %d, %v", c.body, len(body), err)
		}
	}
}
