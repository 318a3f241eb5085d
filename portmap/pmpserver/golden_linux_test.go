package pmpserver

import (
	"net/netip"
	"testing"

	"github.com/fairlead-net/fairlead/portmap"
)

// The pieces of messages. The client is 127.0.0.10, the external address 203.0.113.9, and the epoch 256.
const (
	me      = "00000000000000000000ffff7f00000a "
	other   = "00000000000000000000ffffc0a8010b " // 192.168.1.11
	anyV4   = "00000000000000000000ffff00000000 "
	anyV6   = "00000000000000000000000000000000 "
	outside = "00000000000000000000ffffcb007109 "
	nonceA  = "a1a2a3a4a5a6a7a8a9aaabac "
	nonceB  = "b1b2b3b4b5b6b7b8b9babbbc "
	rest    = "000000000000000000000000 " // of a response's header
	epoch   = "00000100 "
	hour2   = "00001c20 " // 7200 seconds
	long    = "00000708 " // 30 minutes
	short   = "0000001e " // 30 seconds
	tcp     = "06000000 "
	udp     = "11000000 "
)

type exchange struct{ send, want string } // want "": no answer

// TestClients holds what clients send, in their ways, against what they need to hear.
func TestClients(t *testing.T) {
	for _, c := range []struct {
		name  string
		desk  func(*fakeDesk)
		third bool
		pairs []exchange
	}{
		{name: "Apple, NAT-PMP: address, map, renew, delete", pairs: []exchange{
			{"0000", "0080 0000" + epoch + "cb007109"},
			{"0002 0000 0016 0016" + hour2, "0082 0000" + epoch + "0016 0400" + hour2},
			{"0002 0000 0016 0400" + hour2, "0082 0000" + epoch + "0016 0400" + hour2},
			{"0001 0000 1194 1194" + hour2, "0081 0000" + epoch + "1194 1194" + hour2},
			{"0002 0000 0016 0000 00000000", "0082 0000" + epoch + "0016 0000 00000000"},
			{"0001 0000 1194 0000 00000000", "0081 0000" + epoch + "1194 0000 00000000"},
		}},
		{name: "Apple, PCP: TCP 9 to learn the address", pairs: []exchange{
			{"0201 0000" + hour2 + me + nonceA + tcp + "0009 0009" + anyV4, "0281 0000" + hour2 + epoch + rest + nonceA + tcp + "0009 0400" + outside},
			{"0201 0000 00000000" + me + nonceA + tcp + "0009 0000" + anyV4, "0281 0000 00000000" + epoch + rest + nonceA + tcp + "0009 0000" + anyV4},
		}},
		{name: "Tailscale: all protocols are tried, each renewal has a nonce of its own", pairs: []exchange{
			{"0200 0000 00000000" + me, "0280 0000 00000000" + epoch + rest},
			{"0000", "0080 0000" + epoch + "cb007109"},
			{"0201 0000" + hour2 + me + nonceA + udp + "a0f1 0000" + anyV6, "0281 0000" + hour2 + epoch + rest + nonceA + udp + "a0f1 a0f1" + outside},
			{"0201 0000" + hour2 + me + nonceB + udp + "a0f1 a0f1" + outside, "0281 0000" + hour2 + epoch + rest + nonceB + udp + "a0f1 a0f1" + outside},
			{"0001 0000 a0f1 a0f1" + hour2, "0081 0000" + epoch + "a0f1 a0f1" + hour2},
			{"0201 0000 00000000" + me + nonceA + udp + "a0f1 0000" + anyV4, "0281 0000 00000000" + epoch + rest + nonceA + udp + "a0f1 0000" + anyV4},
		}},
		{name: "libtorrent on Windows: PCP, then the same by NAT-PMP", pairs: []exchange{
			{"0201 0000 00000e10" + me + nonceA + tcp + "1ae1 1ae1" + anyV4, "0281 0000 00000e10" + epoch + rest + nonceA + tcp + "1ae1 1ae1" + outside},
			{"0201 0000 00000e10" + me + nonceA + udp + "1ae1 1ae1" + anyV4, "0281 0000 00000e10" + epoch + rest + nonceA + udp + "1ae1 1ae1" + outside},
			{"0002 0000 1ae1 1ae1 00000e10", "0082 0000" + epoch + "1ae1 1ae1 00000e10"},
		}},
		{name: "a console: its port is taken, so it gets the next", desk: func(d *fakeDesk) {
			key := portmap.Key{Network: 2, Internal: netip.MustParseAddrPort("127.0.0.11:3074")}
			d.leases[key], d.ports[slot(2, 3074)] = portmap.Mapping{Public: netip.MustParseAddrPort("203.0.113.9:3074")}, key
		}, pairs: []exchange{
			{"0001 0000 0c02 0c02 00000e10", "0081 0000" + epoch + "0c02 0c03 00000e10"},
			{"0201 0000 00000e10" + me + nonceA + udp + "0c02 0c02" + anyV4 + "02000000", "0281 0000 00000e10" + epoch + rest + nonceA + udp + "0c02 0c03" + outside + "02000000"},
		}},
		{name: "PREFER_FAILURE", desk: func(d *fakeDesk) {
			key := portmap.Key{Network: 1, Internal: netip.MustParseAddrPort("127.0.0.11:80")}
			d.leases[key], d.ports[slot(1, 8080)] = portmap.Mapping{Public: netip.MustParseAddrPort("203.0.113.9:8080")}, key
		}, pairs: []exchange{
			{"0201 0000 00000e10" + me + nonceA + tcp + "0050 1f90" + anyV4 + "02000000", "0281 000b" + long + epoch + rest + nonceA + tcp + "0050 1f90" + anyV4 + "02000000"},
			{"0201 0000 00000e10" + me + nonceA + tcp + "0050 1f91" + other + "02000000", "0281 000b" + long + epoch + rest + nonceA + tcp + "0050 1f91" + other + "02000000"},
			{"0201 0000 00000e10" + me + nonceA + tcp + "0050 1f91" + outside + "02000000", "0281 0000 00000e10" + epoch + rest + nonceA + tcp + "0050 1f91" + outside + "02000000"},
		}},
		{name: "lifetimes", pairs: []exchange{
			{"0201 0000 00000001" + me + nonceA + tcp + "1f90 1f90" + anyV4, "0281 0000 00000078" + epoch + rest + nonceA + tcp + "1f90 1f90" + outside},
			{"0201 0000 ffffffff" + me + nonceA + tcp + "1f90 1f90" + anyV4, "0281 0000 00015180" + epoch + rest + nonceA + tcp + "1f90 1f90" + outside},
			{"0002 0000 1f90 0000 ffffffff", "0082 0000" + epoch + "1f90 1f90 00015180"},
			{"0002 0000 1f90 0000 00000001", "0082 0000" + epoch + "1f90 1f90 00000078"},
		}},
		{name: "versions and opcodes", pairs: []exchange{
			{"0101 0000 00000e10" + me + nonceA + tcp, "0281 0001" + long + epoch + rest + nonceA + tcp},
			{"0300 0000 00000000" + me, "0280 0001" + long + epoch + rest},
			{"ff", ""},
			{"0203 0000 00000000" + me, "0283 0004" + long + epoch + rest},
			{"0202 0000 00000e10" + me + nonceA + udp + "1f90 0000" + anyV4 + "01bb 0000" + other, "0282 0004" + long + epoch + rest + nonceA + udp + "1f90 0000" + anyV4 + "01bb 0000" + other},
			{"0202 0000 00000e10" + me, "0282 0004" + long + epoch + rest + nonce0 + "00000000 0000 0000" + anyV6 + "0000 0000" + anyV6},
			{"0003", "0083 0005" + epoch},
			{"007f 0000", "00ff 0005" + epoch},
			{"0080 0000 00000001 01020304", ""},
			{"0281 0000 00000000" + me, ""},
			{"0002 0000 1f90", ""},
		}},
		{name: "malformed", pairs: []exchange{
			{"0201 0000", "0281 0003" + long + epoch + rest + nonce0 + "00000000 0000 0000" + anyV6},
			{"0201 0000 00000e10" + me + nonceA + tcp + "1f90", "0281 0003" + long + epoch + rest + nonceA + tcp + "1f90 0000" + anyV6},
			{"0201 0000 00000e10" + other + nonceA + tcp + "1f90 1f90" + anyV4, "0281 000c" + long + epoch + rest + nonceA + tcp + "1f90 1f90" + anyV4},
			{"0200 0000 00000000" + other, "0280 000c" + long + epoch + rest},
			{"0201 0000 00000e10" + me + nonceA + "84000000" + "1f90 1f90" + anyV4, "0281 0009" + long + epoch + rest + nonceA + "84000000" + "1f90 1f90" + anyV4},
		}},
		{name: "all ports and all protocols", pairs: []exchange{
			{"0201 0000 00000e10" + me + nonceA + tcp + "0000 0000" + anyV4, "0281 0009" + long + epoch + rest + nonceA + tcp + "0000 0000" + anyV4},
			{"0201 0000 00000e10" + me + nonceA + "00000000" + "0000 0000" + anyV4, "0281 0009" + long + epoch + rest + nonceA + "00000000 0000 0000" + anyV4},
			{"0201 0000 00000e10" + me + nonceA + "00000000" + "0050 0000" + anyV4, "0281 0003" + long + epoch + rest + nonceA + "00000000 0050 0000" + anyV4},
			{"0201 0000 00000000" + me + nonceA + "00000000" + "0000 0000" + anyV4, "0281 0000 00000000" + epoch + rest + nonceA + "00000000 0000 0000" + anyV4},
			{"0002 0000 0000 1f90 00000e10", "0082 0002" + epoch + "0000 0000 00000000"},
			{"0002 0000 0000 0000 00000000", "0082 0000" + epoch + "0000 0000 00000000"},
		}},
		{name: "options", pairs: []exchange{
			{"0201 0000 00000e10" + me + nonceA + tcp + "1f90 1f90" + anyV4 + "7e000000", "0281 0005" + long + epoch + rest + nonceA + tcp + "1f90 1f90" + anyV4 + "7e000000"},
			{"0201 0000 00000e10" + me + nonceA + tcp + "1f90 1f90" + anyV4 + "80000001 aa000000", "0281 0000 00000e10" + epoch + rest + nonceA + tcp + "1f90 1f90" + outside},
			{"0201 0000 00000e10" + me + nonceA + tcp + "1f90 1f90" + anyV4 + "02000000 02000000", "0281 0006" + long + epoch + rest + nonceA + tcp + "1f90 1f90" + anyV4 + "02000000 02000000"},
			{"0201 0000 00000e10" + me + nonceA + tcp + "1f90 1f90" + anyV4 + "02000004 00", "0281 0003" + long + epoch + rest + nonceA + tcp + "1f90 1f90" + anyV4 + "02000004 00000000"},
			{"0201 0000 00000e10" + me + nonceA + tcp + "1f90 1f90" + anyV4 + "02000008 00000000", "0281 0006" + long + epoch + rest + nonceA + tcp + "1f90 1f90" + anyV4 + "02000008 00000000"},
			{"0201 0000 00000e10" + me + nonceA + tcp + "1f90 1f90" + anyV4 + "01000010" + other, "0281 0005" + long + epoch + rest + nonceA + tcp + "1f90 1f90" + anyV4 + "01000010" + other},
			{"0201 0000 00000e10" + me + nonceA + tcp + "1f90 1f90" + anyV4 + "03000014 0078 0050" + other, "0281 000d" + long + epoch + rest + nonceA + tcp + "1f90 1f90" + anyV4 + "03000014 0078 0050" + other},
			{"0201 0000 00000e10" + me + nonceA + tcp + "1f90 1f90" + anyV4 + "03000014 0040 0000 20010db8000000000000000000000000", "0281 0006" + long + epoch + rest + nonceA + tcp + "1f90 1f90" + anyV4 + "03000014 0040 0000 20010db8000000000000000000000000"},
		}},
		{name: "THIRD_PARTY where it is allowed", third: true, pairs: []exchange{
			{"0201 0000 00000e10" + me + nonceA + tcp + "1f90 1f90" + anyV4 + "01000010" + me, "0281 0003" + long + epoch + rest + nonceA + tcp + "1f90 1f90" + anyV4 + "01000010" + me},
			{"0201 0000 00000e10" + me + nonceA + tcp + "1f90 1f90" + anyV4 + "01000010" + anyV4, "0281 0006" + long + epoch + rest + nonceA + tcp + "1f90 1f90" + anyV4 + "01000010" + anyV4},
			{"0201 0000 00000e10" + me + nonceA + tcp + "1f90 1f90" + anyV4 + "01000010" + other, "0281 0000 00000e10" + epoch + rest + nonceA + tcp + "1f90 1f90" + outside + "01000010" + other},
			{"0201 0000 00000e10" + me + nonceB + tcp + "1f90 1f90" + anyV4 + "01000010" + other, "0281 0002" + long + epoch + rest + nonceB + tcp + "1f90 1f90" + anyV4 + "01000010" + other},
			{"0201 0000 00000000" + me + nonceB + tcp + "1f90 0000" + anyV4 + "01000010" + other, "0281 0002" + long + epoch + rest + nonceB + tcp + "1f90 0000" + anyV4 + "01000010" + other},
			{"0201 0000 00000000" + me + nonceA + tcp + "1f90 0000" + anyV4 + "01000010" + other, "0281 0000 00000000" + epoch + rest + nonceA + tcp + "1f90 0000" + anyV4 + "01000010" + other},
		}},
		{name: "no external address", desk: func(d *fakeDesk) { d.outside = netip.Addr{} }, pairs: []exchange{
			{"0000", "0080 0003" + epoch + "00000000"},
			{"0001 0000 1f90 1f90 00000e10", "0081 0003" + epoch + "1f90 0000 00000000"},
			{"0001 0000 1f90 0000 00000000", "0081 0000" + epoch + "1f90 0000 00000000"},
			{"0201 0000 00000e10" + me + nonceA + tcp + "1f90 1f90" + anyV4, "0281 0007" + short + epoch + rest + nonceA + tcp + "1f90 1f90" + anyV4},
			{"0200 0000 00000000" + me, "0280 0000 00000000" + epoch + rest},
		}},
		{name: "quota", desk: func(d *fakeDesk) { d.refuse = portmap.ErrQuota }, pairs: []exchange{
			{"0201 0000 00000e10" + me + nonceA + tcp + "1f90 1f90" + anyV4, "0281 000a" + short + epoch + rest + nonceA + tcp + "1f90 1f90" + anyV4},
			{"0001 0000 1f90 1f90 00000e10", "0081 0004" + epoch + "1f90 0000 00000000"},
		}},
		{name: "denied", desk: func(d *fakeDesk) { d.refuse = portmap.ErrDenied }, pairs: []exchange{
			{"0201 0000 00000e10" + me + nonceA + tcp + "1f90 1f90" + anyV4, "0281 0002" + long + epoch + rest + nonceA + tcp + "1f90 1f90" + anyV4},
			{"0001 0000 1f90 1f90 00000e10", "0081 0002" + epoch + "1f90 0000 00000000"},
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			desk := newDesk()
			if c.desk != nil {
				c.desk(desk)
			}
			_, port := running(t, Options{Desk: desk, Spec: portmap.Spec{ThirdParty: c.third}})
			h := dial(t, "udp4", "127.0.0.10", "127.0.0.1", port)
			h.ask([]byte{0, 0}) // it has started
			for h.receive(time0) != nil {
			}
			for _, x := range c.pairs {
				sent := octets(t, x.send)
				if x.want == "" {
					h.send(sent)
					if b := h.receive(silence); b != nil {
						t.Errorf("%x is answered with %x", sent, b)
					}
					continue
				}
				if got, want := h.ask(sent), octets(t, x.want); string(got) != string(want) {
					t.Errorf("%x\n is answered with %x,\n           want %x", sent, got, want)
				}
			}
		})
	}
}

const (
	nonce0 = "000000000000000000000000 "
	time0  = 1
)

// TestOneProtocolAlone is what a client of the other one hears then: it must not wait.
func TestOneProtocolAlone(t *testing.T) {
	for _, c := range []struct {
		protocol portmap.Protocol
		exchange
	}{
		{portmap.PCP, exchange{"0000", "0280 0001" + long + epoch + rest}},
		{portmap.NATPMP, exchange{"0201 0000 00000e10" + me + nonceA + tcp + "1f90 1f90" + anyV4, "0081 0001" + epoch}},
		{portmap.NATPMP, exchange{"0200 0000 00000000" + me, "0080 0001" + epoch}},
	} {
		_, port := running(t, Options{Desk: newDesk(), Spec: portmap.Spec{Protocols: []portmap.Protocol{c.protocol}}})
		got := dial(t, "udp4", "127.0.0.10", "127.0.0.1", port).ask(octets(t, c.send))
		if want := octets(t, c.want); string(got) != string(want) {
			t.Errorf("%s alone: %s is answered with %x, want %x", c.protocol, c.send, got, want)
		}
	}
}
