package firewall

import "encoding/binary"

// What is written to the kernel: netlink attributes (linux/netlink.h), length and type in the host's order, then the value,
// padded to four bytes.

const nestedFlag = 1 << 15 // NLA_F_NESTED

func attr(kind uint16, value []byte) []byte {
	b := binary.NativeEndian.AppendUint16(nil, uint16(4+len(value)))
	b = binary.NativeEndian.AppendUint16(b, kind)
	b = append(b, value...)
	return append(b, make([]byte, pad4(len(b))-len(b))...)
}

func u32Attr(kind uint16, v uint32) []byte { return attr(kind, binary.BigEndian.AppendUint32(nil, v)) }

func u64Attr(kind uint16, v uint64) []byte { return attr(kind, binary.BigEndian.AppendUint64(nil, v)) }

func strAttr(kind uint16, s string) []byte { return attr(kind, append([]byte(s), 0)) }

func nestAttr(kind uint16, parts ...[]byte) []byte { return attr(kind|nestedFlag, concat(parts...)) }

func concat(parts ...[]byte) []byte {
	var out []byte
	for _, p := range parts {
		out = append(out, p...)
	}
	return out
}
