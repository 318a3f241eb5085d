package pmpserver

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"hash/maphash"
	"net"
	"net/netip"
	"strings"
	"testing"

	"golang.org/x/net/ipv4"
	"golang.org/x/sys/unix"

	"github.com/fairlead-net/fairlead/portmap"
	"github.com/fairlead-net/fairlead/portmap/pcp"
)

// A paper door has messages in and out, and no socket.
type paper struct{ sent [][]byte }

func (p *paper) ReadBatch([]ipv4.Message, int) (int, error) { return 0, net.ErrClosed }

func (p *paper) WriteBatch(ms []ipv4.Message, _ int) (int, error) {
	for _, m := range ms {
		p.sent = append(p.sent, bytes.Clone(m.Buffers[0]))
	}
	return len(ms), nil
}

// control is what Linux says of a packet to an address that came in by an interface: cmsghdr and in_pktinfo, ip(7).
func control(to netip.Addr, index uint32) []byte {
	b := (&ipv4.ControlMessage{Src: to.AsSlice(), IfIndex: int(index)}).Marshal()
	if index == 0 {
		return b
	}
	info := b[unix.CmsgLen(0):] // struct in_pktinfo: the interface, the address to answer from, the address of the header
	binary.NativeEndian.PutUint32(info, index)
	copy(info[8:], to.AsSlice())
	return b
}

// FuzzTake has a server look at a message that came in by the LAN, another that did not, and answer.
func FuzzTake(f *testing.F) {
	for _, s := range []string{
		"0000", "0001 0000 0c02 0c02 00000e10", "0001 0000 0000 0000 00000000", "0001 0000 0c02 0000 00000000", "0200 0000 00000000" + me, "0203" + strings.Repeat("00", 22),
		"0201 0000 00000e10" + me + nonceA + tcp + "1f90 1f90" + anyV4 + "03000014 0078 0000" + other + "01000010" + other + "02000000",
		"0202 0000 00000e10" + me + nonceA + udp + "1f90 0000" + anyV4 + "01bb 0000" + other, "0101" + strings.Repeat("00", 1200),
	} {
		b, err := hex.DecodeString(strings.Join(strings.Fields(s), ""))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > inLength {
			b = b[:inLength]
		}
		out := &paper{}
		d := &door{batcher: out}
		desk := newDesk()
		place := portmap.Place{Interface: net.Interface{Index: 3, Name: "lan"}, Addrs: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/8")}}
		s := New(Options{Desk: desk, Spec: portmap.Spec{Protocols: both, ThirdParty: true}})
		r := &reader{
			Server: s, door: d, out: outbox{door: d}, requests: newLimiter(100), faults: newLimiter(100), seed: maphash.MakeSeed(),
			places: []portmap.Place{place}, outside: desk.outside, epoch: desk.epoch,
		}
		for _, index := range []uint32{0, 4, 3} {
			oob := control(netip.MustParseAddr("127.0.0.1"), index)
			r.take(&ipv4.Message{
				Buffers: [][]byte{b}, N: len(b), OOB: oob, NN: len(oob), Addr: &net.UDPAddr{IP: net.IPv4(127, 0, 0, 10), Port: 4000},
			})
			if index != 3 && (s.seen.requests.Load() != 0 || r.out.n != 0 || s.queue.total != 0) {
				t.Fatalf("interface %d is served", index)
			}
		}
		if s.seen.requests.Load() != 1 {
			t.Fatal("the LAN is not served")
		}
		r.out.flush()
		if asks := s.queue.drain(nil); len(asks) > 0 {
			newClerk(s, d).serve(t.Context(), asks)
		}
		if len(out.sent) > 1 {
			t.Fatalf("%d answers", len(out.sent))
		}
		for _, a := range out.sent {
			if len(a) < 8 || len(a) > pcp.MaxLength || len(a)%4 != 0 || a[1]&0x80 == 0 {
				t.Fatalf("%x is answered with %x", b, a)
			}
			if most := max(len(b)+3, 80); len(a) > most {
				t.Fatalf("%d octets are answered with %d", len(b), len(a))
			}
		}
		for _, m := range desk.Of(netip.Addr{}) {
			if m.Client.String() != "127.0.0.10" || m.Interface != "lan" || m.Internal.Port() == 0 {
				t.Fatalf("a mapping %+v", m)
			}
		}
	})
}
