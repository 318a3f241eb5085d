package wake

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/fairlead-net/fairlead/forward"
	"github.com/fairlead-net/fairlead/internal/netlab"
)

const (
	sleeper4 = "192.168.1.10"
	sleeper6 = "fd00:1::10"
)

// A bench is who sends, between a LAN with a sleeping host and another network with a stranger.
type bench struct {
	sender, sleeper, stranger *netlab.Node
	mac                       forward.MAC // the sleeper's
}

func newBench(t *testing.T) bench {
	l := netlab.New(t)
	b := bench{sender: l.Node("sender"), sleeper: l.Node("sleeper"), stranger: l.Node("stranger")}
	lan := l.Switch("switch")
	lan.Attach(netlab.End{Node: b.sender, Interface: "lan", Addrs: []string{"192.168.1.2/24", "fd00:1::2/64"}})
	lan.Attach(netlab.End{Node: b.sleeper, Interface: "eth0", Addrs: []string{sleeper4 + "/24", sleeper6 + "/64"}})
	l.Link(netlab.End{Node: b.sender, Interface: "other", Addrs: []string{"198.51.100.1/24"}},
		netlab.End{Node: b.stranger, Interface: "eth0", Addrs: []string{"198.51.100.2/24"}})
	b.mac = macOf(t, b.sleeper, "eth0")
	return b
}

func macOf(t *testing.T, n *netlab.Node, name string) forward.MAC {
	t.Helper()
	var mac forward.MAC
	if err := n.Do(func() error {
		i, err := net.InterfaceByName(name)
		if err == nil {
			copy(mac[:], i.HardwareAddr)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return mac
}

func (b bench) send(t *testing.T, target Target) []Copy {
	t.Helper()
	target.MAC = b.mac
	var copies []Copy
	if err := b.sender.Do(func() (err error) { copies, err = Send(t.Context(), target); return err }); err != nil {
		t.Fatal(err)
	}
	for _, c := range copies {
		if c.Err != nil {
			t.Errorf("not sent: %v", c.failure())
		}
	}
	return copies
}

// A sniffer sees every frame that comes to a host, as its network card does.
type sniffer struct{ fd int }

const snifferTime = 20 // seconds without any frame until a test is given up

func newSniffer(t *testing.T, n *netlab.Node) sniffer {
	t.Helper()
	var s sniffer
	if err := n.Do(func() (err error) {
		if s.fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, int(networkOrder(unix.ETH_P_ALL))); err != nil {
			return err
		}
		return unix.SetsockoptTimeval(s.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: snifferTime})
	}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(s.fd) })
	return s
}

// until reads frames until done says that it has seen the last one.
func (s sniffer) until(t *testing.T, done func(frame []byte) bool) {
	t.Helper()
	buf := make([]byte, 2048)
	for {
		n, err := unix.Read(s.fd, buf)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			t.Fatalf("waiting for a frame: %v", err)
		}
		if n >= 14 && done(buf[:n]) {
			return
		}
	}
}

// awaitAll reads until every one of want has come, each "DESTINATION MAC ETHERTYPE [IP:PORT]" with this packet as the payload.
func (s sniffer) awaitAll(t *testing.T, packet []byte, want ...string) {
	t.Helper()
	left := slices.Clone(want)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("still missing: %q", left)
		}
	})
	s.until(t, func(frame []byte) bool {
		where, payload := describe(frame)
		if i := slices.Index(left, where); i >= 0 && bytes.Equal(payload, packet) {
			left = slices.Delete(left, i, i+1)
		}
		return len(left) == 0
	})
}

// describe says where a frame goes, and gives its payload: of UDP when it is that.
func describe(frame []byte) (where string, payload []byte) {
	where = fmt.Sprintf("%v %04x", forward.MAC(frame[:6]), binary.BigEndian.Uint16(frame[12:]))
	payload = frame[14:]
	var to netip.Addr
	switch {
	case strings.HasSuffix(where, "0800") && len(payload) >= 28 && payload[9] == unix.IPPROTO_UDP:
		to, payload = netip.AddrFrom4([4]byte(payload[16:20])), payload[20:]
	case strings.HasSuffix(where, "86dd") && len(payload) >= 48 && payload[6] == unix.IPPROTO_UDP:
		to, payload = netip.AddrFrom16([16]byte(payload[24:40])), payload[40:]
	default:
		return where, payload
	}
	return where + " " + netip.AddrPortFrom(to, binary.BigEndian.Uint16(payload[2:])).String(), payload[8:]
}

// both is a way at both ports.
func both(way string) []string { return []string{way + ":9", way + ":7"} }

var (
	byLimited  = both("ff:ff:ff:ff:ff:ff 0800 255.255.255.255")
	byDirected = both("ff:ff:ff:ff:ff:ff 0800 192.168.1.255")
	byAllNodes = both("33:33:00:00:00:01 86dd [ff02::1]")
)

func (b bench) byFrame() []string {
	return []string{"ff:ff:ff:ff:ff:ff 0842", b.mac.String() + " 0842"}
}

// All ways reach the card of the host, and the network that it is not in hears nothing of it.
func TestEveryWayArrives(t *testing.T) {
	for name, c := range map[string]struct{ addr, unicast string }{
		"IPv4": {sleeper4, "0800 " + sleeper4},
		"IPv6": {sleeper6, "86dd [" + sleeper6 + "]"},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			target := Target{Addrs: []netip.Addr{netip.MustParseAddr(c.addr)}, Password: testSix}
			asleep, away := newSniffer(t, b.sleeper), newSniffer(t, b.stranger)
			copies := b.send(t, target)
			if len(copies) != 2+4+2+2 {
				t.Errorf("%d copies: %+v", len(copies), copies)
			}
			asleep.awaitAll(t, MagicPacket(b.mac, testSix),
				slices.Concat(byLimited, byDirected, byAllNodes, b.byFrame(), both(b.mac.String()+" "+c.unicast))...)
			b.hearsNothing(t, away)
		})
	}
}

// hearsNothing sends the stranger something else and wants no magic packet before it.
func (b bench) hearsNothing(t *testing.T, away sniffer) {
	t.Helper()
	last := []byte("that was all")
	conn, err := b.sender.Dial(t.Context(), "udp", "198.51.100.2:9")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Write(last); err != nil {
		t.Fatal(err)
	}
	away.until(t, func(frame []byte) bool {
		where, payload := describe(frame)
		if bytes.Contains(frame, bytes.Repeat(b.mac[:], repetitions)) {
			t.Errorf("a magic packet in the wrong network: %s", where)
		}
		return bytes.Equal(payload, last)
	})
}

// Without an address the packet goes to every network, unless an interface is named.
func TestWithoutAddress(t *testing.T) {
	b := newBench(t)
	packet := MagicPacket(b.mac, noSecret)
	asleep, away := newSniffer(t, b.sleeper), newSniffer(t, b.stranger)
	b.send(t, Target{Interface: "lan"})
	asleep.awaitAll(t, packet, slices.Concat(byLimited, byDirected, byAllNodes, b.byFrame())...)
	b.hearsNothing(t, away)

	b.send(t, Target{})
	asleep.awaitAll(t, packet, slices.Concat(byLimited, byDirected, byAllNodes, b.byFrame())...)
	away.awaitAll(t, packet, slices.Concat(byLimited, both("ff:ff:ff:ff:ff:ff 0800 198.51.100.255"), byAllNodes, b.byFrame())...)
}

// A network without IPv4 wakes its hosts, too.
func TestIPv6Only(t *testing.T) {
	l := netlab.New(t)
	b := bench{sender: l.Node("sender"), sleeper: l.Node("sleeper")}
	l.Link(netlab.End{Node: b.sender, Interface: "eth0", Addrs: []string{"2001:db8::1/64"}}, netlab.End{Node: b.sleeper, Interface: "eth0"})
	b.mac = macOf(t, b.sleeper, "eth0")
	asleep := newSniffer(t, b.sleeper)
	b.send(t, Target{})
	asleep.awaitAll(t, MagicPacket(b.mac, noSecret), slices.Concat(byAllNodes, b.byFrame())...)
}

// The daemon has no CAP_NET_RAW: bare frames are left out, and nothing else, without a word.
func TestWithoutRawSockets(t *testing.T) {
	b := newBench(t)
	asleep := newSniffer(t, b.sleeper)
	var copies []Copy
	err := b.sender.Do(func() error {
		return withoutCapability(unix.CAP_NET_RAW, func() (err error) {
			copies, err = Send(t.Context(), Target{MAC: b.mac, Addrs: []netip.Addr{netip.MustParseAddr(sleeper4)}})
			return err
		})
	})
	if err != nil || len(copies) != 4+2+2 {
		t.Errorf("%v, %+v", err, copies)
	}
	asleep.awaitAll(t, MagicPacket(b.mac, noSecret),
		slices.Concat(byLimited, byDirected, byAllNodes, both(b.mac.String()+" 0800 "+sleeper4))...)
}

// withoutCapability runs fn on this thread, which is locked, without one of its capabilities.
func withoutCapability(which int, fn func() error) error {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var had [2]unix.CapUserData
	if err := unix.Capget(&header, &had[0]); err != nil {
		return err
	}
	less := had
	less[which/32].Effective &^= 1 << (which % 32)
	if err := unix.Capset(&header, &less[0]); err != nil {
		return err
	}
	defer unix.Capset(&header, &had[0])
	return fn()
}

// Across a router that keeps the MAC address of a host that does not answer, unicast is what arrives.
func TestAcrossRouter(t *testing.T) {
	top := netlab.OneArmed(t)
	b := bench{sender: top.Client, mac: macOf(t, top.Server, "eth0")}
	top.Router.Run(t, "ip", "neigh", "replace", netlab.Server4, "lladdr", b.mac.String(), "dev", "lan", "nud", "permanent")
	top.Server.Run(t, "ip", "address", "flush", "dev", "eth0") // it is asleep and answers nothing
	asleep := newSniffer(t, top.Server)
	b.send(t, Target{Addrs: []netip.Addr{netip.MustParseAddr(netlab.Server4)}})
	asleep.awaitAll(t, MagicPacket(b.mac, noSecret), both(b.mac.String()+" 0800 "+netlab.Server4)...)
}

// A host whose firewall forbids it says by which interface and why.
func TestNothingCouldBeSent(t *testing.T) {
	b := newBench(t)
	b.sender.Run(t, "ip", "link", "set", "other", "down")
	b.sender.Nft(t, "table inet no { chain out { type filter hook output priority 0; udp dport { 7, 9 } reject; }; }")
	var copies []Copy
	err := b.sender.Do(func() error {
		return withoutCapability(unix.CAP_NET_RAW, func() (err error) {
			copies, err = Send(t.Context(), Target{MAC: b.mac})
			return err
		})
	})
	if err == nil || len(copies) == 0 || !strings.Contains(err.Error(), "lan to 255.255.255.255:9: operation not permitted") {
		t.Errorf("%v, %+v", err, copies)
	}
	b.sender.Run(t, "ip", "link", "set", "lan", "down")
	err = b.sender.Do(func() (err error) { copies, err = Send(t.Context(), Target{MAC: b.mac}); return err })
	if err == nil || len(copies) > 0 || !strings.Contains(err.Error(), "no interface of this host is connected") {
		t.Errorf("with everything down: %v, %+v", err, copies)
	}
}

// Other programs for the same send the same bytes.
func TestOthersSendTheSame(t *testing.T) {
	b := newBench(t)
	mac := b.mac.String()
	for _, c := range []struct {
		password forward.WakePassword
		command  []string
	}{
		{noSecret, []string{"etherwake", "-i", "lan", mac}},
		{noSecret, []string{"etherwake", "-b", "-i", "lan", mac}},
		{testSix, []string{"etherwake", "-i", "lan", "-p", "01:02:03:04:05:06", mac}},
		{testFour, []string{"etherwake", "-i", "lan", "-p", "192.0.2.1", mac}},
		{noSecret, []string{"wakeonlan", "-i", "192.168.1.255", mac}},
	} {
		t.Run(strings.Join(c.command[:3], " "), func(t *testing.T) {
			if _, err := exec.LookPath(c.command[0]); err != nil {
				t.Skipf("%s is not installed", c.command[0])
			}
			asleep := newSniffer(t, b.sleeper)
			b.sender.Run(t, c.command[0], c.command[1:]...)
			want := MagicPacket(b.mac, c.password)
			asleep.until(t, func(frame []byte) bool {
				_, payload := describe(frame)
				if !bytes.Contains(payload, b.mac[:]) || len(payload) < 102 {
					return false // neighbours asking for each other
				}
				if !bytes.Equal(payload, want) {
					t.Errorf("% x, want % x", payload, want)
				}
				return true
			})
		})
	}
}
