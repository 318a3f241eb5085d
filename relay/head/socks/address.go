package socks

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"github.com/fairlead-net/fairlead/relay/head"
)

// The types of addresses (RFC 1928, section 5).
const (
	typeIPv4 = 1
	typeName = 3
	typeIPv6 = 4
)

// addressLen is how long an address of SOCKS 5 is, its type and its port included, as its first two bytes say; 0 is a type
// that nobody knows.
func addressLen(start []byte) int {
	switch start[0] {
	case typeIPv4:
		return 1 + 4 + 2
	case typeIPv6:
		return 1 + 16 + 2
	case typeName:
		return 1 + 1 + int(start[1]) + 2
	}
	return 0
}

// parseAddress reads an address of SOCKS 5 that is as long as addressLen says.
func parseAddress(b []byte) (host string, port uint16, err error) {
	body, tail := b[1:len(b)-2], b[len(b)-2:]
	port = binary.BigEndian.Uint16(tail)
	if b[0] == typeName {
		host, err = head.Host(string(body[1:]))
	} else {
		addr, _ := netip.AddrFromSlice(body)
		host = addr.Unmap().String()
	}
	if err != nil {
		return "", 0, fmt.Errorf("%w: %w", ErrProtocol, err)
	}
	return host, port, nil
}

// appendAddress writes an address as SOCKS 5 has it; zero is 0.0.0.0:0.
func appendAddress(b []byte, ap netip.AddrPort) []byte {
	addr := ap.Addr().Unmap()
	switch {
	case !addr.IsValid():
		b = append(b, typeIPv4, 0, 0, 0, 0)
	case addr.Is4():
		b = append(b, typeIPv4)
		b = append(b, addr.AsSlice()...)
	default:
		b = append(b, typeIPv6)
		b = append(b, addr.AsSlice()...)
	}
	return binary.BigEndian.AppendUint16(b, ap.Port())
}
