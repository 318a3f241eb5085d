package relay

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/pires/go-proxyproto"
)

// Sizes of a PROXY protocol header (haproxy.org, proxy-protocol.txt).
const (
	proxyV1Max   = 107 // section 2.1: the longest line, CR LF included
	proxyV2Fixed = 16  // section 2.2: signature, command, family, length
	proxyV2Max   = 4096
	proxyProbe   = 12 // the signature of version 2; no line of version 1 is shorter

	// proxyHeaderTime is how long a trusted peer may take to send its header. It sends it first thing, in one piece.
	proxyHeaderTime = 5 * time.Second
)

var errNoProxyHeader = errors.New("no PROXY protocol header came first")

// A proxyHeader is what a trusted peer says about the connection that it speaks for.
type proxyHeader struct {
	client, dest netip.AddrPort // zero: the peer speaks for itself (LOCAL, UNKNOWN), or not for TCP
	extensions   extensions     // of version 2
}

// trusts reports whether peer's PROXY protocol header is believed; such a peer has to send one.
func trusts(from []netip.Prefix, peer netip.Addr) bool {
	peer = peer.Unmap().WithZone("") // a prefix has no zone
	return slices.ContainsFunc(from, func(p netip.Prefix) bool { return p.Contains(peer) })
}

// acceptProxyHeader reads the header that conn has to begin with.
func acceptProxyHeader(conn net.Conn) (proxyHeader, error) {
	if err := conn.SetReadDeadline(time.Now().Add(proxyHeaderTime)); err != nil {
		return proxyHeader{}, err
	}
	h, err := readProxyHeader(conn)
	if err != nil {
		return proxyHeader{}, err
	}
	return h, conn.SetReadDeadline(time.Time{})
}

// readProxyHeader takes exactly the header from r and not a byte of what follows, which stays in the socket and can be
// spliced. The parsing of what was cut off is the library's.
func readProxyHeader(r io.Reader) (proxyHeader, error) {
	raw, err := cutProxyHeader(r)
	if err != nil {
		return proxyHeader{}, err
	}
	parsed, err := proxyproto.Read(bufio.NewReaderSize(bytes.NewReader(raw), len(raw)))
	if err != nil {
		return proxyHeader{}, fmt.Errorf("the PROXY protocol header is broken: %w", err)
	}
	var h proxyHeader
	if parsed.Command != proxyproto.PROXY {
		return h, nil
	}
	if src, dst, ok := parsed.TCPAddrs(); ok {
		h.client, h.dest = unmap(src.AddrPort()), unmap(dst.AddrPort())
	}
	if parsed.Version == 2 {
		if h.extensions, err = readExtensions(raw); err != nil {
			return proxyHeader{}, fmt.Errorf("the PROXY protocol header is broken: %w", err)
		}
	}
	return h, nil
}

func cutProxyHeader(r io.Reader) ([]byte, error) {
	raw := make([]byte, proxyProbe, proxyV1Max+1)
	if _, err := io.ReadFull(r, raw); err != nil {
		return nil, fmt.Errorf("%w: %w", errNoProxyHeader, err)
	}
	switch {
	case bytes.Equal(raw, proxyproto.SIGV2):
		return cutVersion2(r, raw)
	case bytes.HasPrefix(raw, []byte("PROXY ")):
		return cutVersion1(r, raw)
	}
	return nil, errNoProxyHeader
}

// cutVersion1 reads byte by byte: only the line's end says how long it is.
func cutVersion1(r io.Reader, raw []byte) ([]byte, error) {
	for !bytes.HasSuffix(raw, []byte("\r\n")) {
		if len(raw) == proxyV1Max {
			return nil, fmt.Errorf("the PROXY protocol line is longer than %d bytes", proxyV1Max)
		}
		raw = raw[:len(raw)+1]
		if _, err := io.ReadFull(r, raw[len(raw)-1:]); err != nil {
			return nil, fmt.Errorf("the PROXY protocol line has no end: %w", err)
		}
	}
	return raw, nil
}

func cutVersion2(r io.Reader, raw []byte) ([]byte, error) {
	raw = raw[:proxyV2Fixed]
	if _, err := io.ReadFull(r, raw[proxyProbe:]); err != nil {
		return nil, fmt.Errorf("the PROXY protocol header is cut short: %w", err)
	}
	rest := int(binary.BigEndian.Uint16(raw[14:]))
	if rest > proxyV2Max-proxyV2Fixed {
		return nil, fmt.Errorf("the PROXY protocol header claims %d bytes; %d is the most", proxyV2Fixed+rest, proxyV2Max)
	}
	raw = append(raw, make([]byte, rest)...)
	if _, err := io.ReadFull(r, raw[proxyV2Fixed:]); err != nil {
		return nil, fmt.Errorf("the PROXY protocol header is cut short: %w", err)
	}
	return raw, nil
}

// format tells who the client is and where it came to, and in version 2 what else is known of the connection. Without
// addresses, as for a client of a unix socket, the header says that there are none.
func (h proxyHeader) format(version int) ([]byte, error) {
	var from, to net.Addr
	if h.client.IsValid() && h.dest.IsValid() {
		from, to = net.TCPAddrFromAddrPort(sameFamily(h.client, h.dest)), net.TCPAddrFromAddrPort(sameFamily(h.dest, h.client))
	}
	raw, err := proxyproto.HeaderProxyFromAddrs(byte(version), from, to).Format()
	if err != nil || version != 2 {
		return raw, err
	}
	return h.extensions.appendTo(raw)
}

func sendProxyHeader(target net.Conn, version int, h proxyHeader) error {
	raw, err := h.format(version)
	if err != nil {
		return err
	}
	if err := target.SetWriteDeadline(time.Now().Add(proxyHeaderTime)); err != nil {
		return err
	}
	if _, err := target.Write(raw); err != nil {
		return err
	}
	return target.SetWriteDeadline(time.Time{})
}

// sameFamily writes an IPv4 address as IPv6 when the other one is IPv6: a header has one family for both.
func sameFamily(a, other netip.AddrPort) netip.AddrPort {
	if a.Addr().Is4() && !other.Addr().Is4() {
		return netip.AddrPortFrom(netip.AddrFrom16(a.Addr().As16()), a.Port())
	}
	return a
}

func unmap(a netip.AddrPort) netip.AddrPort { return netip.AddrPortFrom(a.Addr().Unmap(), a.Port()) }
