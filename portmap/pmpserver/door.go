package pmpserver

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"syscall"

	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"

	"github.com/fairlead-net/fairlead/portmap/pcp"
)

const (
	readBatch = 64                // messages that are read at once
	inLength  = pcp.MaxLength + 4 // more than any message may have, so that one that is too long is seen to be
	inBuffer  = 1 << 20           // of the kernel, for what comes while messages are looked at
)

// A door is the socket of one family.
type door struct {
	conn *net.UDPConn
	six  bool
	batcher
}

// batcher is what ipv4.PacketConn and ipv6.PacketConn have in common; their messages are of one type.
type batcher interface {
	ReadBatch(ms []ipv4.Message, flags int) (int, error)
	WriteBatch(ms []ipv4.Message, flags int) (int, error)
}

// open binds the port for both families. A host without IPv6 has one door.
func (s *Server) open(ctx context.Context) ([]*door, error) {
	four, err := s.listen(ctx, "udp4", "0.0.0.0")
	if err != nil {
		return nil, err
	}
	doors := []*door{four}
	six, err := s.listen(ctx, "udp6", "::")
	switch {
	case err == nil:
		doors = append(doors, six)
	case errors.Is(err, syscall.EAFNOSUPPORT) || errors.Is(err, syscall.EADDRNOTAVAIL):
		s.o.Log.Info("port mapping is served over IPv4 alone", "why", err)
	default:
		four.conn.Close()
		return nil, err
	}
	return doors, nil
}

func (s *Server) listen(ctx context.Context, network, addr string) (*door, error) {
	var config net.ListenConfig
	packets, err := config.ListenPacket(ctx, network, net.JoinHostPort(addr, strconv.Itoa(int(s.o.Port))))
	if err != nil {
		if errors.Is(err, syscall.EADDRINUSE) {
			err = fmt.Errorf("another port-mapping server of this host has the port, stop it or leave out pcp and natpmp: %w", err)
		}
		return nil, fmt.Errorf("PCP and NAT-PMP: %w", err)
	}
	d := &door{conn: packets.(*net.UDPConn), six: network == "udp6"}
	growBuffer(d.conn, inBuffer)
	// What comes in before the kernel is told to say by which interface is dropped as foreign.
	if d.six {
		p := ipv6.NewPacketConn(d.conn)
		d.batcher, err = p, p.SetControlMessage(ipv6.FlagDst|ipv6.FlagInterface, true)
	} else {
		p := ipv4.NewPacketConn(d.conn)
		d.batcher, err = p, p.SetControlMessage(ipv4.FlagDst|ipv4.FlagInterface, true)
	}
	if err != nil {
		d.conn.Close()
		return nil, fmt.Errorf("PCP and NAT-PMP: this system does not tell by which interface a packet came in: %w", err)
	}
	return d, nil
}

// messages makes room for as many as are read at once.
func (d *door) messages() []ipv4.Message {
	control := ipv4.NewControlMessage(ipv4.FlagDst | ipv4.FlagInterface)
	if d.six {
		control = ipv6.NewControlMessage(ipv6.FlagDst | ipv6.FlagInterface)
	}
	ms := make([]ipv4.Message, readBatch)
	for i := range ms {
		ms[i].Buffers = [][]byte{make([]byte, inLength)}
		ms[i].OOB = make([]byte, len(control))
	}
	return ms
}

// arrived is the address that a message was sent to and the interface that it came in by; 0 when the kernel does not tell.
func (d *door) arrived(m *ipv4.Message) (to net.IP, index int) {
	if d.six {
		var cm ipv6.ControlMessage
		if cm.Parse(m.OOB[:m.NN]) != nil {
			return nil, 0
		}
		return cm.Dst, cm.IfIndex
	}
	var cm ipv4.ControlMessage
	if cm.Parse(m.OOB[:m.NN]) != nil {
		return nil, 0
	}
	return cm.Dst, cm.IfIndex
}

// leaving is the control message for what is to leave from an address by an interface.
func (d *door) leaving(from net.IP, index int) []byte {
	if d.six {
		return (&ipv6.ControlMessage{Src: from, IfIndex: index}).Marshal()
	}
	return (&ipv4.ControlMessage{Src: from, IfIndex: index}).Marshal()
}

// A letter is where an answer goes: back to who asked, from the address that was asked, by the interface of the question.
type letter struct {
	door  *door
	to    *net.UDPAddr
	from  net.IP
	index int
}

// client is who asked, without the zone: the interface says that.
func (l *letter) client() netip.Addr { return l.to.AddrPort().Addr().Unmap().WithZone("") }

// An outbox holds the answers of one batch, in room that is used again.
type outbox struct {
	door *door
	ms   []ipv4.Message
	n    int
}

// body is where the next answer is to be appended.
func (o *outbox) body() []byte {
	if o.n == len(o.ms) {
		o.ms = append(o.ms, ipv4.Message{Buffers: [][]byte{make([]byte, 0, pcp.MaxLength)}})
	}
	return o.ms[o.n].Buffers[0][:0]
}

// put takes the answer, which body had the room for.
func (o *outbox) put(l *letter, answer []byte) {
	m := &o.ms[o.n]
	m.Buffers[0], m.Addr, m.OOB = answer, l.to, l.door.leaving(l.from, l.index)
	o.n++
}

// full reports whether it is time to flush.
func (o *outbox) full() bool { return o.n >= readBatch }

// flush sends what there is. An answer that cannot be sent is its client's loss alone, who will ask again.
func (o *outbox) flush() (sent int) {
	for ms := o.ms[:o.n]; len(ms) > 0; {
		n, err := o.door.WriteBatch(ms, 0)
		if err != nil || n <= 0 {
			if errors.Is(err, net.ErrClosed) {
				break
			}
			n = 1
		} else {
			sent += n
		}
		ms = ms[n:]
	}
	o.n = 0
	return sent
}
