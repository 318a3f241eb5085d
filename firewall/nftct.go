package firewall

import (
	"encoding/binary"
	"net/netip"
)

// Keys of ct (nft_ct_keys).
const (
	ctState      = 0
	ctDirection  = 1
	ctStatus     = 2
	ctL3Protocol = 7
	ctSrc        = 8
	ctDst        = 9
	ctProtocol   = 10
	ctProtoSrc   = 11
	ctProtoDst   = 12
	ctSrcIP      = 19
	ctDstIP      = 20
	ctSrcIP6     = 21
	ctDstIP6     = 22
)

// Directions of a session (ip_conntrack_dir).
const (
	directionOriginal = 0
	directionReply    = 1
)

func (d *decoder) ct(a attrMap) {
	if a[4] != nil { // it sets something of the session, which drops nothing
		return
	}
	reg, _ := register(a.u32(1))
	key, size := a.u32(2), 4
	original := len(a[3]) == 1 && a[3][0] == directionOriginal
	var of func(p *packet) []byte
	tracked := func(value func(p *packet) []byte) func(p *packet) []byte {
		return func(p *packet) []byte {
			if p.untracked {
				return nil
			}
			return value(p)
		}
	}
	unknown := func(*packet) []byte { return nil }
	switch key {
	case ctState:
		of = func(p *packet) []byte { return binary.NativeEndian.AppendUint32(nil, p.state()) }
	case ctDirection:
		of = tracked(func(p *packet) []byte {
			if p.reply {
				return []byte{directionReply}
			}
			return []byte{directionOriginal}
		})
	case ctStatus:
		d.add(load{reg, size, unknown})
		d.status = reg + 1
		return
	case ctL3Protocol:
		of = tracked(func(p *packet) []byte {
			if p.v6 {
				return []byte{familyIPv6}
			}
			return []byte{familyIPv4}
		})
	case ctProtocol:
		of = tracked(func(p *packet) []byte { return []byte{p.proto} })
	case ctProtoSrc, ctProtoDst, ctSrc, ctDst, ctSrcIP, ctDstIP, ctSrcIP6, ctDstIP6:
		if of = unknown; original {
			of = tracked(func(p *packet) []byte { return p.original(key) })
		}
		if key == ctSrcIP6 || key == ctDstIP6 || key == ctSrc || key == ctDst {
			size = 16
		}
	default:
		of = unknown
	}
	d.add(load{reg, size, of})
}

// original is a value of the tuple that the session began with.
func (p *packet) original(key uint32) []byte {
	tuple := func(a netip.AddrPort, port bool) []byte {
		switch {
		case !a.IsValid():
			return nil
		case port:
			return binary.BigEndian.AppendUint16(nil, a.Port())
		}
		return a.Addr().AsSlice()
	}
	switch key {
	case ctProtoSrc:
		return tuple(p.origSrc, true)
	case ctProtoDst:
		return tuple(p.origDst, true)
	case ctSrc, ctSrcIP, ctSrcIP6:
		return tuple(p.origSrc, false)
	}
	return tuple(p.origDst, false)
}

// What fib answers and what it looks at (nft_fib_result, nft_fib_flags).
const (
	fibOIF     = 1
	fibOIFName = 2
	fibType    = 3

	fibSource      = 1
	fibDestination = 2
	fibIncoming    = 8
	fibPresent     = 32
)

// Kinds of addresses (linux/rtnetlink.h).
const (
	typeUnicast = 1
	typeLocal   = 2
)

func addrType(local bool) uint32 {
	if local {
		return typeLocal
	}
	return typeUnicast
}

// fib answers as routing would. A client's packets come in by the interface by which they would be answered: that is how
// the packets of this room are made.
func (d *decoder) fib(a attrMap) {
	reg, _ := register(a.u32(1))
	result, flags := a.u32(2), a.u32(3)
	size := 4
	var of func(p *packet) []byte
	switch {
	case result == fibType:
		of = func(p *packet) []byte {
			local := p.srcLocal
			if flags&fibDestination != 0 {
				local = p.dstLocal
				if flags&fibIncoming != 0 && local && !p.dstOnIn { // another interface has the address
					return nil
				}
			}
			return binary.NativeEndian.AppendUint32(nil, addrType(local))
		}
	case flags&(fibSource|fibIncoming) == fibSource|fibIncoming && flags&fibPresent != 0:
		size, of = 1, func(*packet) []byte { return []byte{1} }
	case flags&(fibSource|fibIncoming) == fibSource|fibIncoming && result == fibOIF:
		of = func(p *packet) []byte {
			if p.inIndex == 0 {
				return binary.NativeEndian.AppendUint32(nil, 1<<30) // there is one; rules ask only whether
			}
			return binary.NativeEndian.AppendUint32(nil, uint32(p.inIndex))
		}
	case flags&(fibSource|fibIncoming) == fibSource|fibIncoming && result == fibOIFName:
		size, of = 16, func(p *packet) []byte { return padded(p.in, 16) }
	default:
		of = func(*packet) []byte { return nil }
	}
	d.add(load{reg, size, of})
}
