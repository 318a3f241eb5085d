package relay

import (
	"bytes"
	"fmt"
	"net"
	"net/netip"

	"github.com/pires/go-proxyproto"
)

// The PROXY protocol over UDP: a header of version 2 stands in front of every datagram of a flow, never of the first alone
// (haproxy.org, proxy-protocol.txt, section 2), because that one may be lost or come late. BIND, PowerDNS, dnsdist and
// Technitium understand it so. The answers have none.

// A datagramHeader is what a trusted peer says about the client that it speaks for.
type datagramHeader struct {
	client, dest netip.AddrPort // zero: the peer speaks for itself
	tlvs         []proxyproto.TLV
}

// cutDatagramHeader parts a datagram's header from its payload.
func cutDatagramHeader(data []byte) (datagramHeader, []byte, error) {
	if !bytes.HasPrefix(data, proxyproto.SIGV2) {
		return datagramHeader{}, nil, errNoProxyHeader // version 1 is for TCP alone
	}
	parsed, payload, err := proxyproto.ParseUDPDatagram(data)
	if err != nil {
		return datagramHeader{}, nil, fmt.Errorf("the PROXY protocol header is broken: %w", err)
	}
	var h datagramHeader
	if parsed.Command.IsProxy() {
		// A proxy that takes in TCP, too (DNS), may pass it on by UDP, and says TCP here.
		h.client, h.dest = ipOf(parsed.SourceAddr), ipOf(parsed.DestinationAddr)
	}
	if h.tlvs, err = parsed.TLVs(); err != nil {
		return datagramHeader{}, nil, fmt.Errorf("the PROXY protocol header is broken: %w", err)
	}
	return h, payload, nil
}

// ipOf is an address of a header, zero for a unix socket's.
func ipOf(a net.Addr) netip.AddrPort {
	switch a := a.(type) {
	case *net.UDPAddr:
		return unmap(a.AddrPort())
	case *net.TCPAddr:
		return unmap(a.AddrPort())
	}
	return netip.AddrPort{}
}

// headerForDatagrams is what stands in front of each datagram to the target. What a trusted peer has said besides (TLVs) is
// passed on, but for the checksum, which is about the peer's own header.
func headerForDatagrams(client, dest netip.AddrPort, tlvs []proxyproto.TLV) ([]byte, error) {
	if !dest.Addr().IsValid() { // not known, and no reason to keep the client secret
		dest = netip.AddrPortFrom(netip.IPv4Unspecified(), dest.Port())
	}
	h := proxyproto.HeaderProxyFromAddrs(2, net.UDPAddrFromAddrPort(sameFamily(client, dest)), net.UDPAddrFromAddrPort(sameFamily(dest, client)))
	var kept []proxyproto.TLV
	for _, tlv := range tlvs {
		if tlv.Type != proxyproto.PP2_TYPE_CRC32C && tlv.Type != proxyproto.PP2_TYPE_NOOP {
			kept = append(kept, tlv)
		}
	}
	if err := h.SetTLVs(kept); err != nil {
		return nil, err
	}
	return h.Format()
}
