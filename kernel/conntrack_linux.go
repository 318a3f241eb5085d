package kernel

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fairlead-net/fairlead/forward"
)

// A session is one entry of conntrack, as far as forwards care.
type session struct {
	id       uint32
	zone     []byte // the value of CTA_ZONE, nil outside zones
	network  forward.Networks
	family   byte
	client   netip.AddrPort // source of the original direction
	listened netip.AddrPort // destination of the original direction: what the client used
	target   netip.AddrPort // source of the reply direction: where it was sent
	seen     netip.AddrPort // destination of the reply direction: whom the target takes for the client
	status   uint32
	tcpState byte
	since    time.Time // zero where conntrack keeps no times
	in, out  uint64    // bytes, zero where conntrack does not count
	original []byte    // CTA_TUPLE_ORIG, to name the entry in a delete
	master   origin    // of the session that a helper read of this one in; zero: none
}

// An origin is the first packet of a session.
type origin struct {
	network          forward.Networks // 0: neither TCP nor UDP
	client, listened netip.AddrPort
}

func (s session) origin() origin { return origin{s.network, s.client, s.listened} }

// startedBy is the client of the forward: who began the session, or the one that it was negotiated in.
func (s session) startedBy() netip.AddrPort {
	if s.related() {
		return s.master.client
	}
	return s.client
}

// related reports whether a helper expected the session.
func (s session) related() bool { return s.master != origin{} }

// Attributes of linux/netfilter/nfnetlink_conntrack.h.
const (
	ctaTupleOrig        = 1
	ctaTupleReply       = 2
	ctaStatus           = 3
	ctaProtoInfo        = 4
	ctaCountersOrig     = 9
	ctaCountersReply    = 10
	ctaID               = 12
	ctaTupleMaster      = 14
	ctaZone             = 18
	ctaTimestamp        = 20
	tcpStateEstablished = 3 // TCP_CONNTRACK_ESTABLISHED
)

const (
	ctGet    = unix.NFNL_SUBSYS_CTNETLINK<<8 | 1 // IPCTNL_MSG_CT_GET
	ctDelete = unix.NFNL_SUBSYS_CTNETLINK<<8 | 2 // IPCTNL_MSG_CT_DELETE
)

func (s session) translated() bool { return s.status&statusDstNAT != 0 }

// sessions dumps conntrack. A dump that was interrupted has most entries, and that is what there is to say about a table
// that changes all the time.
func sessions(s *nlSocket, yield func(session)) error {
	err := s.request("list sessions", ctGet, unix.NLM_F_DUMP, unix.AF_UNSPEC, nil, func(b []byte) error {
		if entry, ok := parseSession(b); ok {
			yield(entry)
		}
		return nil
	})
	if errors.Is(err, errDumpInterrupted) {
		return nil
	}
	return err
}

func parseSession(b []byte) (s session, ok bool) {
	eachAttr(b, func(kind uint16, v []byte) {
		switch kind {
		case ctaTupleOrig:
			s.original = append([]byte(nil), v...)
			s.client, s.listened, s.network = parseTuple(v)
		case ctaTupleReply:
			s.target, s.seen, _ = parseTuple(v)
		case ctaTupleMaster:
			s.master.client, s.master.listened, s.master.network = parseTuple(v)
		case ctaStatus:
			s.status = beUint32(v)
		case ctaProtoInfo:
			eachAttr(v, func(_ uint16, info []byte) {
				eachAttr(info, func(kind uint16, v []byte) {
					if kind == 1 && len(v) == 1 {
						s.tcpState = v[0]
					}
				})
			})
		case ctaCountersOrig:
			s.in = bytesOf(v)
		case ctaCountersReply:
			s.out = bytesOf(v)
		case ctaID:
			s.id = beUint32(v)
		case ctaZone:
			s.zone = append([]byte(nil), v...)
		case ctaTimestamp:
			eachAttr(v, func(kind uint16, v []byte) {
				if kind == 1 && len(v) == 8 {
					s.since = time.Unix(0, int64(binary.BigEndian.Uint64(v)))
				}
			})
		}
	})
	s.family = byte(familyOf(s.client.Addr().Is6()))
	return s, (s.network != 0 || s.related()) && s.client.IsValid() && s.listened.IsValid()
}

func parseTuple(b []byte) (src, dst netip.AddrPort, network forward.Networks) {
	var from, to netip.Addr
	var sport, dport uint16
	eachAttr(b, func(kind uint16, v []byte) {
		eachAttr(v, func(inner uint16, v []byte) {
			switch {
			case kind == 1 && (inner == 1 || inner == 3):
				from, _ = netip.AddrFromSlice(v)
			case kind == 1 && (inner == 2 || inner == 4):
				to, _ = netip.AddrFromSlice(v)
			case kind == 2 && inner == 1 && len(v) == 1 && v[0] == protoTCP:
				network = forward.TCP
			case kind == 2 && inner == 1 && len(v) == 1 && v[0] == protoUDP:
				network = forward.UDP
			case kind == 2 && inner == 2 && len(v) == 2:
				sport = binary.BigEndian.Uint16(v)
			case kind == 2 && inner == 3 && len(v) == 2:
				dport = binary.BigEndian.Uint16(v)
			}
		})
	})
	return netip.AddrPortFrom(from, sport), netip.AddrPortFrom(to, dport), network
}

func bytesOf(b []byte) (n uint64) {
	eachAttr(b, func(kind uint16, v []byte) {
		if kind == 2 && len(v) == 8 {
			n = binary.BigEndian.Uint64(v)
		}
	})
	return n
}

func beUint32(b []byte) uint32 {
	if len(b) != 4 {
		return 0
	}
	return binary.BigEndian.Uint32(b)
}

// end deletes the entry. The next packet of a TCP session then finds no translation, because it is no SYN: its sender
// gets a reset. A UDP flow begins anew.
func (s session) end(nl *nlSocket) error {
	attrs := concat(nested(ctaTupleOrig, s.original), be32(ctaID, s.id))
	if s.zone != nil {
		attrs = concat(attrs, attr(ctaZone, s.zone))
	}
	err := nl.request("end a session", ctDelete, 0, s.family, attrs, nil)
	if errors.Is(err, unix.ENOENT) {
		return nil // it ended by itself
	}
	return err
}
