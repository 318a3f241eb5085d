package socks

import (
	"net/netip"
)

// The header of a datagram: two bytes that are zero, the number of the fragment, the address (RFC 1928, section 7).
const (
	fragmentAt = 2
	addressAt  = 3
	maxHeader  = addressAt + 1 + 16 + 2 // in front of what targets send, whose addresses are no names
)

// maxDatagram is the longest payload of UDP, and bufferSize has room for it behind a header.
const (
	maxDatagram = 65535
	bufferSize  = maxHeader + maxDatagram
)

// cutDatagram cuts a datagram of a client into the address it is for and the payload. A fragment is none that this server
// takes, as the RFC allows.
func cutDatagram(b []byte) (address, payload []byte, ok bool) {
	if len(b) < addressAt+2 || b[fragmentAt] != 0 {
		return nil, nil, false
	}
	b = b[addressAt:]
	n := addressLen(b)
	if n == 0 || len(b) < n {
		return nil, nil, false
	}
	return b[:n], b[n:], true
}

// wrap writes the header in front of a payload of n bytes that stands at maxHeader, and returns both.
func wrap(buf []byte, n int, from netip.AddrPort) []byte {
	var header [maxHeader]byte
	h := appendAddress(header[:addressAt], from)
	start := maxHeader - len(h)
	copy(buf[start:], h)
	return buf[start : maxHeader+n]
}

// A destination is where a datagram is to go.
type destination struct {
	host string
	port uint16
}

// maxDestinations is how many of them are kept parsed for one client.
const maxDestinations = 64

// destinations keeps the last addresses parsed, so that a datagram costs a look into a map and no memory.
type destinations map[string]destination

func (d destinations) find(address []byte) (destination, bool) {
	if known, ok := d[string(address)]; ok {
		return known, true
	}
	host, port, err := parseAddress(address)
	if err != nil || port == 0 {
		return destination{}, false
	}
	if len(d) >= maxDestinations {
		clear(d)
	}
	d[string(address)] = destination{host, port}
	return destination{host, port}, true
}
