package e2e

import (
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/fairlead-net/fairlead/internal/netlab"
	"github.com/fairlead-net/fairlead/portmap/natpmp"
)

// A mapper is a gateway that speaks NAT-PMP and maps although its own address is private, which miniupnpd refuses to do.
type mapper struct {
	t        *testing.T
	node     *netlab.Node
	external netip.Addr
	lan      string // its own address there
	conn     net.PacketConn
	started  time.Time
	done     chan struct{}
}

func newMapper(t *testing.T, node *netlab.Node, external, lan string) *mapper {
	t.Helper()
	node.Nft(t, `table ip nat {
	chain prerouting { type nat hook prerouting priority -100; jump mapped; }
	chain mapped { }
	chain postrouting { type nat hook postrouting priority 100; oifname "wan" masquerade; }
}`)
	m := &mapper{t: t, node: node, external: netip.MustParseAddr(external), lan: lan}
	m.start()
	t.Cleanup(m.stop)
	return m
}

func (m *mapper) start() {
	m.t.Helper()
	conn, err := m.node.ListenPacket("udp4", "0.0.0.0:5351")
	if err != nil {
		m.t.Fatal(err)
	}
	m.conn, m.started, m.done = conn, time.Now().Add(-time.Hour), make(chan struct{})
	go m.serve()
}

func (m *mapper) stop() {
	m.conn.Close()
	<-m.done
}

// restart forgets everything, and gives notice of it.
func (m *mapper) restart() {
	m.t.Helper()
	m.stop()
	m.node.Run(m.t, "nft", "flush", "chain", "ip", "nat", "mapped")
	m.start()
	m.started = time.Now()
	notice := natpmp.AppendResponse(nil, &natpmp.Response{Opcode: natpmp.Address, Address: m.external})
	conn, err := m.node.ListenPacket("udp4", m.lan+":0") // the address decides the interface
	if err != nil {
		m.t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.WriteTo(notice, net.UDPAddrFromAddrPort(netip.MustParseAddrPort("224.0.0.1:5350"))); err != nil {
		m.t.Fatal(err)
	}
}

func (m *mapper) serve() {
	defer close(m.done)
	buf := make([]byte, 1500)
	for {
		n, from, err := m.conn.ReadFrom(buf)
		if err != nil {
			return
		}
		q, err := natpmp.ParseRequest(buf[:n])
		if err != nil {
			continue // PCP, say
		}
		r := natpmp.Response{Opcode: q.Opcode, Epoch: uint32(time.Since(m.started) / time.Second), Address: m.external}
		if q.Opcode != natpmp.Address {
			r.Internal, r.External, r.Lifetime = q.Internal, q.External, q.Lifetime
			if q.Lifetime == 0 {
				r.External = 0
			} else {
				m.node.Run(m.t, "nft", "add", "rule", "ip", "nat", "mapped", "iifname", "wan", "tcp", "dport", fmt.Sprint(q.External),
					"dnat", "to", fmt.Sprintf("%s:%d", from.(*net.UDPAddr).IP, q.Internal))
			}
		}
		_, _ = m.conn.WriteTo(natpmp.AppendResponse(nil, &r), from)
	}
}
