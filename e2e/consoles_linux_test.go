package e2e

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fairlead-net/fairlead/internal/netlab"
	"github.com/fairlead-net/fairlead/portmap/pcp"
)

// Further addresses outside a home: a STUN server has two, to answer from the one that was not asked, and a peer has been sent
// nothing before it calls.
const otherAddr, peerAddr = "198.41.0.10", "198.41.0.11"

// Ports of the servers outside: that of stund, which has the next one, too, that of turnserver, and of an echo.
const stunPort, turnPort, echoPort = "3478", "5478", "7000"

// newArcade is a home with two consoles, anna and ben, and STUN servers outside.
func newArcade(t *testing.T) home {
	t.Helper()
	needs(t, "stun", "stund", "turnserver", "turnutils_natdiscovery", "upnpc", "conntrack", "nft")
	h := newHome(t)
	h.wan.Address(t, "eth0", otherAddr+"/24", peerAddr+"/24")
	h.wan.Echo(t, ":"+echoPort)
	h.wan.Start(t, "stund", "-h", wanAddr, "-a", otherAddr)
	coturn(t, h.wan, wanAddr, otherAddr)
	for _, port := range []int{3478, 3479, 5478, 5479} {
		h.wan.WaitListen(t, "udp", port)
	}
	return h
}

// A console is a host of the LAN that plays from one UDP port.
type console struct {
	t    *testing.T
	node *netlab.Node
	addr string
	port int // its own, inside
}

// maps asks the gateway at that description for an external port, and returns what upnpc said.
func (c console) maps(description string, inside, outside int) string {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), 20*time.Second)
	defer cancel()
	out, _ := c.node.Command(ctx, "upnpc", "-u", description, "-e", "console", "-a", c.addr, fmt.Sprint(inside), fmt.Sprint(outside), "UDP").CombinedOutput()
	return string(out)
}

// description is where upnpc finds the gateway's description by itself.
func (c console) description() string {
	c.t.Helper()
	_, rest, found := strings.Cut(c.node.Run(c.t, "upnpc", "-s"), "desc: ")
	if !found {
		c.t.Fatal("no gateway was found")
	}
	return strings.Fields(rest)[0]
}

// verdict is what the program stun says of the NAT, by packets from the console's port and, for what nobody has been sent
// to from, the next one.
func (c console) verdict() string {
	ctx, cancel := context.WithTimeout(c.t.Context(), 20*time.Second)
	defer cancel()
	out, _ := c.node.Command(ctx, "stun", wanAddr, "-p", fmt.Sprint(c.port)).CombinedOutput() // whose status is the kind of NAT
	for line := range strings.Lines(string(out)) {
		if words, found := strings.CutPrefix(line, "Primary: "); found {
			return strings.TrimSpace(words)
		}
	}
	return string(out)
}

// discover runs the tests of mapping and filtering of RFC 5780, and fails where they do not say what consoles call open.
func (c console) discover(outside string) {
	c.t.Helper()
	for option, want := range map[string]string{"-m": "NAT with Endpoint Independent Mapping!", "-f": "NAT with Endpoint Independent Filtering!"} {
		ctx, cancel := context.WithTimeout(c.t.Context(), 20*time.Second)
		out, err := c.node.Command(ctx, "turnutils_natdiscovery", option, "-L", c.addr, "-l", fmt.Sprint(c.port), "-p", turnPort, wanAddr).CombinedOutput()
		cancel()
		if text := string(out); err != nil || !strings.Contains(text, want) || !strings.Contains(text, "UDP reflexive addr: "+outside) {
			c.t.Errorf("%s:%d, which is %s outside: turnutils_natdiscovery %s: %v\n%s", c.node, c.port, outside, option, err, text)
		}
	}
}

// open opens the console's port.
func (c console) open() phone {
	c.t.Helper()
	conn, err := c.node.ListenPacket("udp", fmt.Sprintf("%s:%d", c.addr, c.port))
	if err != nil {
		c.t.Fatal(err)
	}
	return phone{c.t, conn}
}

// A phone is an open UDP port.
type phone struct {
	t    *testing.T
	conn net.PacketConn
}

func (p phone) send(to, text string) {
	p.t.Helper()
	if _, err := p.conn.WriteTo([]byte(text), net.UDPAddrFromAddrPort(netip.MustParseAddrPort(to))); err != nil {
		p.t.Fatal(err)
	}
}

// receive waits for a datagram of that text, and returns from where it came; "" is in vain.
func (p phone) receive(text string) string {
	_ = p.conn.SetReadDeadline(time.Now().Add(3 * time.Second))
	buf := make([]byte, 2048)
	for {
		n, from, err := p.conn.ReadFrom(buf)
		if err != nil {
			return ""
		}
		if strings.Contains(string(buf[:n]), text) {
			return from.String()
		}
	}
}

// seenAs is which address an echo server outside sees.
func (p phone) seenAs(server string) string {
	p.t.Helper()
	p.send(server, "?")
	_ = p.conn.SetReadDeadline(time.Now().Add(time.Second))
	buf := make([]byte, 2048)
	n, _, err := p.conn.ReadFrom(buf)
	if err != nil {
		return ""
	}
	_, me, _ := strings.Cut(string(buf[:n]), "you are ")
	me, _, _ = strings.Cut(me, "\n")
	return me
}

// play has a peer that was never sent anything reach each console, and the consoles each other by what they are outside.
func play(t *testing.T, h home, consoles [2]console, outside [2]string) {
	t.Helper()
	conn, err := h.wan.ListenPacket("udp", peerAddr+":6000")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	peer := phone{t, conn}
	a, b := consoles[0].open(), consoles[1].open()
	defer a.conn.Close()
	defer b.conn.Close()
	for i, p := range []phone{a, b} {
		peer.send(outside[i], "play with me")
		if from := p.receive("play with me"); from != peerAddr+":6000" {
			t.Errorf("a peer calls %s at %s: it comes from %q", consoles[i].node, outside[i], from)
			continue
		}
		p.send(peerAddr+":6000", "with pleasure")
		if from := peer.receive("with pleasure"); from != outside[i] {
			t.Errorf("%s answers from %q, and was called at %s", consoles[i].node, from, outside[i])
		}
	}
	// RFC 4787, REQ-9: each sees the other as everybody does.
	for _, c := range []struct {
		from, to phone
		is, at   string
	}{{a, b, outside[0], outside[1]}, {b, a, outside[1], outside[0]}} {
		c.from.send(c.at, "neighbour")
		if from := c.to.receive("neighbour"); from != c.is {
			t.Errorf("%s calls %s: it comes from %q", c.is, c.at, from)
		}
	}
}

// TestTwoConsoles has two consoles of one make behind a gateway map the port that both play from, as an Xbox does: who hears
// that it is taken asks for another. Programs that tell the kind of a NAT call both open.
func TestTwoConsoles(t *testing.T) {
	t.Parallel()
	h := newArcade(t)
	d := up(t, h.router, "[gateway]\nwan = \"wan\"\nlan = \"lan\"\n[gateway.portmap]\n")
	anna, ben := console{t, h.anna, annaAddr, 3074}, console{t, h.ben, benAddr, 3074}

	// Both talk to a server before they ask for ports, and the one that will hear that its port is taken has it then.
	b, a := ben.open(), anna.open()
	waitFor(t, "ben leaves from the port that he has inside", func() bool { return b.seenAs(wanAddr+":"+echoPort) == outerAddr+":3074" })
	if got := a.seenAs(wanAddr + ":" + echoPort); got == "" || got == outerAddr+":3074" {
		t.Errorf("anna is %q at first", got)
	}
	gateway := anna.description()
	const granted = "external " + outerAddr + ":%d UDP is redirected to internal %s:%d"
	if out := anna.maps(gateway, 3074, 3074); !strings.Contains(out, fmt.Sprintf(granted, 3074, annaAddr, 3074)) {
		t.Fatal(out)
	}
	// The server that knew anna by another port sees that of the mapping, at once as others do, though ben keeps talking.
	waitFor(t, "anna's mapping holds for the server that she has talked to", func() bool {
		b.send(wanAddr+":"+echoPort, "still here")
		return a.seenAs(wanAddr+":"+echoPort) == outerAddr+":3074"
	})
	if out := ben.maps(gateway, 3074, 3074); !strings.Contains(out, "failed with code 718 (ConflictInMappingEntry)") {
		t.Error(out)
	}
	if out := ben.maps(gateway, 3074, 3075); !strings.Contains(out, fmt.Sprintf(granted, 3075, benAddr, 3074)) {
		t.Fatal(out)
	}
	waitFor(t, "ben's mapping holds for the server that he has talked to", func() bool {
		return b.seenAs(wanAddr+":"+echoPort) == outerAddr+":3075"
	})
	a.conn.Close()
	b.conn.Close()

	outside := [2]string{outerAddr + ":3074", outerAddr + ":3075"}
	anna.discover(outside[0])
	ben.discover(outside[1])
	play(t, h, [2]console{anna, ben}, outside)

	// stun has what nobody was sent to from its next port, so that is mapped, too.
	for i, c := range []console{anna, ben} {
		if out := c.maps(gateway, 3075, 3076+i); !strings.Contains(out, fmt.Sprintf(granted, 3076+i, c.addr, 3075)) {
			t.Error(out)
		}
	}
	verdicts(t, map[console]string{
		anna: "Independent Mapping, Independent Filter, preserves ports, will hairpin",
		ben:  "Independent Mapping, Independent Filter, random port, will hairpin",
	})
	if list := d.leases(); len(list) != 4 {
		t.Errorf("leases: %+v", list)
	}
}

// verdicts has consoles run stun, at once since it takes a second.
func verdicts(t *testing.T, want map[console]string) {
	t.Helper()
	var running sync.WaitGroup
	for c, words := range want {
		running.Go(func() {
			if got := c.verdict(); got != words {
				t.Errorf("stun on %s: %q, want %q", c.node, got, words)
			}
		})
	}
	running.Wait()
}

// TestTwoPlayStations has the second console hear that its port is taken and leave it at that, as a PlayStation does. Where
// the NAT is endpoint-independent both are open all the same; where it is not, the first one is.
func TestTwoPlayStations(t *testing.T) {
	t.Parallel()
	h := newArcade(t)
	const config = "[gateway]\nwan = \"wan\"\nlan = \"lan\"\n%s\n[gateway.portmap]\n"
	d := up(t, h.router, fmt.Sprintf(config, "endpoint_independent = true"))
	anna, ben := console{t, h.anna, annaAddr, 9308}, console{t, h.ben, benAddr, 9308}
	gateway := anna.description()
	b := ben.open() // who talks first, and has the port until it is mapped
	waitFor(t, "ben leaves from the port that he has inside", func() bool { return b.seenAs(wanAddr+":"+echoPort) == outerAddr+":9308" })
	if out := anna.maps(gateway, 9308, 9308); !strings.Contains(out, "is redirected to") {
		t.Fatal(out)
	}
	if out := ben.maps(gateway, 9308, 9308); !strings.Contains(out, "failed with code 718 (ConflictInMappingEntry)") {
		t.Error(out)
	}
	var bens string
	waitFor(t, "ben leaves from a port of his own", func() bool {
		bens = b.seenAs(wanAddr + ":" + echoPort)
		return bens != "" && bens != outerAddr+":9308"
	})
	b.conn.Close()
	outside := [2]string{outerAddr + ":9308", bens}
	anna.discover(outside[0])
	ben.discover(outside[1])
	verdicts(t, map[console]string{
		anna: "Independent Mapping, Independent Filter, preserves ports, will hairpin",
		ben:  "Independent Mapping, Independent Filter, random port, will hairpin",
	})
	play(t, h, [2]console{anna, ben}, outside)
	d.write(fmt.Sprintf(config, ""))
	d.run("apply", "-c", d.file())
	h.router.Run(t, "conntrack", "-F") // sessions that were let in go on
	anna.discover(outside[0])
	verdicts(t, map[console]string{ben: "Dependent Mapping, random port, no hairpin"}) // the port that ben would keep is anna's
}

// TestTwoConsolesElsewhere is two consoles behind a gateway whose LAN leaves by an address that is named, over a WAN that takes small
// packets, with version 2 of UPnP, which picks another port by itself, and with IPv6, which is let in and not translated.
func TestTwoConsolesElsewhere(t *testing.T) {
	t.Parallel()
	h := newArcade(t)
	const named = "198.41.0.5"
	h.router.Address(t, "wan", named+"/24")
	h.router.Run(t, "ip", "link", "set", "wan", "mtu", "1300")
	d := up(t, h.router, "[gateway]\nwan = \"wan\"\nlan = \"lan\"\nsnat = \""+named+"\"\n[gateway.portmap]\nigd = 2\n")
	anna, ben := console{t, h.anna, annaAddr, 3074}, console{t, h.ben, benAddr, 3074}
	gateway := anna.description()
	for i, c := range []console{anna, ben} {
		out := c.node.Run(t, "upnpc", "-u", gateway, "-n", c.addr, "3074", "3074", "udp", "3600")
		if !strings.Contains(out, fmt.Sprintf("external %s:%d UDP is redirected to internal %s:3074", named, 3074+i, c.addr)) {
			t.Fatal(out)
		}
	}
	outside := [2]string{named + ":3074", named + ":3075"}
	anna.discover(outside[0])
	ben.discover(outside[1])
	play(t, h, [2]console{anna, ben}, outside)
	for _, at := range []string{wanAddr, "[" + wanAddr6 + "]"} {
		if n := segment(t, h.anna, at+":"+echoPort); n == 0 || n > 1300-40 {
			t.Errorf("segments to %s have %d bytes", at, n)
		}
	}

	// Of IPv6 both have the same port, each at its own address: by UPnP, and by PCP.
	anna.addr, ben.addr = "["+annaAddr6+"]", "["+benAddr6+"]"
	a, b := anna.open(), ben.open()
	defer a.conn.Close()
	defer b.conn.Close()
	conn, err := h.wan.ListenPacket("udp", "["+wanAddr6+"]:6000")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	peer := phone{t, conn}
	peer.send(anna.addr+":3074", "too early")
	peer.send(ben.addr+":3074", "too early")
	_, rest, found := strings.Cut(h.anna.Run(t, "upnpc", "-6", "-S"), "desc: ")
	if !found {
		t.Fatal("no gateway was found by IPv6")
	}
	if out := h.anna.Run(t, "upnpc", "-6", "-u", strings.Fields(rest)[0], "-m", "eth0", "-A", "", "0", annaAddr6, "3074", "UDP", "3600"); !strings.Contains(out, "Pinhole ID = ") {
		t.Fatal(out)
	}
	lets(t, h.ben, benAddr6, 3074)
	for i, p := range []phone{a, b} {
		c := []console{anna, ben}[i]
		peer.send(c.addr+":3074", "play with me")
		_ = p.conn.SetReadDeadline(time.Now().Add(3 * time.Second))
		buf := make([]byte, 2048)
		if n, from, err := p.conn.ReadFrom(buf); err != nil || string(buf[:n]) != "play with me" || from.String() != "["+wanAddr6+"]:6000" {
			t.Errorf("%s received %q from %v (%v)", c.node, buf[:n], from, err)
		}
	}
	if list := d.leases(); len(list) != 4 {
		t.Errorf("leases: %+v", list)
	}
}

// segment is how much a TCP connection to that server puts into a packet.
func segment(t *testing.T, from *netlab.Node, to string) (n int) {
	t.Helper()
	conn, err := from.Dial(t.Context(), "tcp", to)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	raw, err := conn.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	if err := raw.Control(func(fd uintptr) { n, err = unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_MAXSEG) }); err != nil {
		t.Fatal(err)
	}
	return n
}

// lets asks the gateway by PCP to let the outside in to a UDP port of that address.
func lets(t *testing.T, node *netlab.Node, addr string, port uint16) {
	t.Helper()
	at := netip.MustParseAddr(addr)
	conn, err := node.DialFrom(t.Context(), "udp", addr, "[2001:4860:2::1]:5351")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(3 * time.Second))
	if _, err := conn.Write(pcp.AppendRequest(nil, &pcp.Request{Opcode: pcp.Map, Client: at, Lifetime: 3600,
		Mapping: pcp.Mapping{Nonce: [12]byte{7}, Protocol: 17, Internal: port, External: netip.AddrPortFrom(at, port)}})); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 1100)
	n, err := conn.Read(buf)
	if err != nil {
		t.Fatal(err)
	}
	if r, err := pcp.ParseResponse(buf[:n]); err != nil || r.Code != pcp.Success || r.Mapping.External != netip.AddrPortFrom(at, port) {
		t.Errorf("PCP: %+v, %v", r, err)
	}
}
