package kernel

import "encoding/binary"

// Netlink attributes (linux/netlink.h): length and type in the host's order, then the value, padded to four bytes.

const nestedFlag = 1 << 15 // NLA_F_NESTED

func attr(kind uint16, value []byte) []byte { return appendAttr(nil, kind, value) }

func appendAttr(b []byte, kind uint16, value []byte) []byte {
	b = binary.NativeEndian.AppendUint16(b, uint16(4+len(value)))
	b = binary.NativeEndian.AppendUint16(b, kind)
	return pad(append(b, value...))
}

func pad(b []byte) []byte {
	for len(b)%4 != 0 {
		b = append(b, 0)
	}
	return b
}

func be32(kind uint16, v uint32) []byte { return attr(kind, binary.BigEndian.AppendUint32(nil, v)) }

func str(kind uint16, s string) []byte { return attr(kind, append([]byte(s), 0)) }

func nested(kind uint16, attrs ...[]byte) []byte { return attr(kind|nestedFlag, concat(attrs...)) }

func concat(parts ...[]byte) []byte {
	var out []byte
	for _, p := range parts {
		out = append(out, p...)
	}
	return out
}

// openAttr begins a nested attribute in b; closeAttr fills in the length of any. Long lists are built in place this way.
func openAttr(b []byte, kind uint16) ([]byte, int) {
	return append(b, 0, 0, byte0(kind|nestedFlag), byte1(kind|nestedFlag)), len(b)
}

func closeAttr(b []byte, at int) []byte {
	binary.NativeEndian.PutUint16(b[at:], uint16(len(b)-at))
	return b
}

func byte0(v uint16) byte { return binary.NativeEndian.AppendUint16(nil, v)[0] }
func byte1(v uint16) byte { return binary.NativeEndian.AppendUint16(nil, v)[1] }

// eachAttr calls yield for every attribute of b, without the flags in its type. It stops at the first that does not fit.
func eachAttr(b []byte, yield func(kind uint16, value []byte)) {
	for len(b) >= 4 {
		n := int(binary.NativeEndian.Uint16(b))
		if n < 4 || n > len(b) {
			return
		}
		yield(binary.NativeEndian.Uint16(b[2:])&0x3fff, b[4:n])
		b = b[min(pad4(n), len(b)):]
	}
}
