package wire

import "errors"

// MaxVarint is the largest number that can be said (RFC 9000, section 16).
const MaxVarint = 1<<62 - 1

// maxVarintLen is how long a number is at most.
const maxVarintLen = 8

// ErrShort is that the bytes end before what they began.
var ErrShort = errors.New("the frame ends too early")

// AppendVarint writes v, which is MaxVarint at most, in as few bytes as it takes.
func AppendVarint(b []byte, v uint64) []byte {
	switch {
	case v < 1<<6:
		return append(b, byte(v))
	case v < 1<<14:
		return append(b, byte(v>>8)|0x40, byte(v))
	case v < 1<<30:
		return append(b, byte(v>>24)|0x80, byte(v>>16), byte(v>>8), byte(v))
	case v <= MaxVarint:
		return append(b, byte(v>>56)|0xc0, byte(v>>48), byte(v>>40), byte(v>>32), byte(v>>24), byte(v>>16), byte(v>>8), byte(v))
	}
	panic("wire: the number is too large for a varint")
}

// VarintLen is how many bytes AppendVarint takes for v.
func VarintLen(v uint64) int {
	switch {
	case v < 1<<6:
		return 1
	case v < 1<<14:
		return 2
	case v < 1<<30:
		return 4
	}
	return maxVarintLen
}

// Varint reads a number, and returns how many bytes it took; 0 is that b is too short.
func Varint(b []byte) (v uint64, n int) {
	if len(b) == 0 {
		return 0, 0
	}
	n = 1 << (b[0] >> 6)
	if len(b) < n {
		return 0, 0
	}
	v = uint64(b[0] & 0x3f)
	for _, c := range b[1:n] {
		v = v<<8 | uint64(c)
	}
	return v, n
}
