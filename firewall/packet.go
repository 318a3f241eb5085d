package firewall

import (
	"encoding/binary"
	"net/netip"
)

// A packet is one packet of a forward's session, as a firewall sees it: everything about it is decided.
type packet struct {
	hook              Hook
	in, out           string // interfaces; "" where there is none at this hook
	inIndex, outIndex int    // 0: not known
	v6                bool
	proto             byte
	src, dst          netip.Addr
	srcPort, dstPort  uint16
	srcLocal          bool // an address of this host
	dstLocal          bool
	dstOnIn           bool // an address of the interface in
	reply             bool // it goes back to the client, of a session that is known
	dnat              bool // the session's destination was rewritten
	origSrc, origDst  netip.AddrPort
	newDst            netip.AddrPort // with dnat: where it goes
	newLocal          bool
	untracked         bool // before conntrack has seen it
	mark              uint32
	markKnown         bool
}

// IP protocol numbers (IANA).
const (
	protoTCP = 6
	protoUDP = 17
)

// Bits of nftables' ct state (linux/netfilter/nf_conntrack_common.h), shifted as NF_CT_STATE_BIT does.
const (
	stateInvalid     = 1
	stateEstablished = 2
	stateNew         = 8
)

// Bits of the status of a session (ip_conntrack_status).
const (
	statusExpected  = 1 << 0
	statusSeenReply = 1 << 1
	statusAssured   = 1 << 2
	statusConfirmed = 1 << 3
	statusDstNAT    = 1 << 5
	statusDstDone   = 1 << 8
	statusSrcDone   = 1 << 7
)

func (p *packet) state() uint32 {
	switch {
	case p.untracked:
		return stateInvalid
	case p.reply:
		return stateEstablished
	}
	return stateNew
}

// status is the bits that this room knows of, and which those are.
func (p *packet) status() (bits, known uint32) {
	known = statusExpected | statusSeenReply | statusConfirmed | statusDstNAT
	if p.dnat {
		bits |= statusDstNAT
	}
	if p.reply {
		bits |= statusSeenReply | statusConfirmed
	}
	return bits, known
}

// network is n bytes of the IP header from offset on, or nil where they are not decided.
func (p *packet) network(offset, n int) []byte {
	var header, known []byte
	all := []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
	if p.v6 { // RFC 8200, section 3
		header, known = make([]byte, 40), make([]byte, 40)
		header[0], known[0] = 0x60, 0xf0
		header[6], known[6] = p.proto, 0xff
		copy(header[8:], p.src.AsSlice())
		copy(header[24:], p.dst.AsSlice())
		copy(known[8:], all)
		copy(known[24:], all)
	} else { // RFC 791, section 3.1
		header, known = make([]byte, 20), make([]byte, 20)
		header[0], known[0] = 0x45, 0xff
		header[9], known[9] = p.proto, 0xff
		copy(header[12:], p.src.AsSlice())
		copy(header[16:], p.dst.AsSlice())
		copy(known[12:], all[:8])
		known[6], known[7] = 0x3f, 0xff // no fragment
	}
	return decided(header, known, offset, n)
}

// transport is n bytes of the TCP or UDP header from offset on, or nil.
func (p *packet) transport(offset, n int) []byte {
	header, known := make([]byte, 20), make([]byte, 20)
	binary.BigEndian.PutUint16(header, p.srcPort)
	binary.BigEndian.PutUint16(header[2:], p.dstPort)
	known[2], known[3] = 0xff, 0xff
	known[0], known[1] = 0xff, 0xff
	if p.proto == protoTCP { // RFC 9293, section 3.1
		header[13], known[13] = p.tcpFlags(), 0xff
	}
	return decided(header, known, offset, n)
}

// tcpFlags is SYN for the first packet, SYN and ACK for the answer (RFC 9293, section 3.5).
func (p *packet) tcpFlags() byte {
	if p.reply {
		return 0x12
	}
	return 0x02
}

func decided(header, known []byte, offset, n int) []byte {
	if offset < 0 || n <= 0 || offset+n > len(header) {
		return nil
	}
	for _, mask := range known[offset : offset+n] {
		if mask != 0xff {
			return nil
		}
	}
	return header[offset : offset+n]
}
