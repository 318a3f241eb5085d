package e2e

import (
	"fmt"
	"net"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/fairlead-net/fairlead/internal/netlab"
)

// hping sends packets to the router's outer address, from a host of the LAN, and returns when three of four are sent at least. Each flood
// is the number of packets, how far they are apart and what they are, in hping3's words; all run at the same time.
func hping(t *testing.T, from *netlab.Node, floods ...string) {
	t.Helper()
	type flood struct {
		args       []string // "-c", the number, and the rest
		want, sent int
	}
	var left []*flood
	for _, words := range floods {
		f := &flood{args: strings.Fields(words)}
		f.want, _ = strconv.Atoi(f.args[1])
		left = append(left, f)
	}
	// One takes another's answers for its own, and stops before it has sent as many as it was told. Then another one sends the rest.
	for len(left) > 0 {
		var all []*netlab.Process
		for _, f := range left {
			f.args[1] = strconv.Itoa(f.want - f.sent)
			all = append(all, from.Start(t, "hping3", append(append([]string{"-q"}, f.args...), netlab.RouterWAN4)...))
		}
		var short []*flood
		for i, p := range all {
			f := left[i]
			_ = p.Wait(t.Context()) // its status says whether there were answers
			sent, _ := strconv.Atoi(regexp.MustCompile(`(\d+) packets tra`).FindStringSubmatch(p.Output() + "0 packets tra")[1])
			if sent == 0 {
				t.Fatalf("hping3 %s:\n%s", strings.Join(f.args, " "), p.Output())
			}
			if f.sent += sent; f.sent < f.want*3/4 {
				short = append(short, f)
			}
		}
		left = short
	}
}

// TestFloodedTCP has hping3 throw packets at an open port that belong to no connection, and SYNs whose sender does not exist.
// None becomes a session, and those who talk and those who call do not notice.
func TestFloodedTCP(t *testing.T) {
	needs(t, "hping3")
	lab := netlab.Gateway(t)
	lab.Server.Echo(t, "[::]:8080")
	d := up(t, lab.Host, "[forward.web]\nlisten = \"80\"\nto = \"192.168.1.10:8080\"\ncarry = \"relay\"\n")
	k := dial(t, lab.Client, "tcp/"+netlab.RouterWAN4+":80")
	k.say()
	before := d.holds()
	stop := keepTalking(t, k)
	calls := keepCalling(t, 1, 5*time.Millisecond, lab.Client, "tcp", netlab.RouterWAN4+":80") // rests, or it runs out of ports
	client := k.conn.LocalAddr().(*net.TCPAddr)
	into := fmt.Sprintf("-p 80 -k -a %s -s %d ", client.IP, client.Port) // the talk itself
	const few = "-c 500 -i u1000 "
	hping(t, lab.Peer,
		"-c 10000 -i u100 -p 80 -S --rand-source",
		few+"-p 80 -R", few+"-p 80 -F", few+"-p 80 -A", few+"-p 80 -F -P -U", few+"-p 80 -S -A", few+"-p 80",
		few+"-p 80 -R --rand-source", few+"-p 80 -A --rand-source -d 1000",
		few+into+"-R", few+into+"-S", few+into+"-A -d 100", few+into+"-F -P -U")
	words := stop()
	calls.stop()
	t.Logf("%d words and %d calls, the slowest of which took %v", words, calls.calls.Load(), calls.slowest)
	k.say()
	k.conn.Close()
	d.letsGo(before)
	if f := d.status()["web"]; f.Connections.Total != uint64(calls.calls.Load())+1 || f.Connections.Refused != 0 {
		t.Errorf("counts %+v, after %d calls and a talk", f.Connections, calls.calls.Load())
	}
	// What the kernel did about it shows that the packets arrived: more SYNs than its queue takes, and some inside the talk.
	counters := lab.Host.Run(t, "nstat", "-az", "TcpExtSyncookiesSent", "TcpExtTCPChallengeACK")
	for _, want := range []string{"SyncookiesSent", "ChallengeACK"} {
		if !regexp.MustCompile(want + ` +[1-9]`).MatchString(counters) {
			t.Errorf("no %s in:\n%s", want, counters)
		}
	}
	d.endsAsNew()
}

// TestFloodedUDP has hping3 make up senders of datagrams. Each is a flow of its own, which costs a socket until it was idle for
// long enough, so a forward has a bound: max_connections, or 32,768. At the bound newcomers are refused, known flows go on, and
// another forward does not notice.
func TestFloodedUDP(t *testing.T) {
	needs(t, "hping3")
	const bound, made = 1000, 4000
	lab := netlab.Gateway(t)
	lab.Server.Echo(t, "[::]:8080")
	// The flows are counted when all senders have sent, and none may be idle for too long by then.
	d := up(t, lab.Host, fmt.Sprintf(`
[forward.bounded]
listen = "udp/9000"
to = "192.168.1.10:8080"
max_connections = %d
udp_idle = "10s"
[forward.free]
listen = "udp/9001"
to = "192.168.1.10:8080"
carry = "relay"
udp_idle = "10s"
`, bound))
	d.expect("bounded relay up", "free relay up")
	at := "udp/" + netlab.RouterWAN4
	talks := []*talk{dial(t, lab.Client, at+":9000"), dial(t, lab.Client, at+":9001")}
	for _, k := range talks {
		k.say()
	}
	before := d.holds()
	stop := keepTalking(t, talks...)
	hping(t, lab.Peer,
		fmt.Sprintf("-c %d -i u100 --udp -p 9000 --rand-source -d 100", made),
		fmt.Sprintf("-c %d -i u100 --udp -p 9001 --rand-source -d 0", made))
	during := d.holds()
	all := d.status()
	t.Logf("%d words said; bounded has %+v, free has %+v, the daemon %+v", stop(), all["bounded"].Connections, all["free"].Connections, during)
	if f := all["bounded"].Connections; f.Open != bound || f.Refused == 0 {
		t.Errorf("bounded counts %+v", f)
	}
	// Senders that no host can have are dropped by the kernel.
	if f := all["free"].Connections; f.Open < made/2 || f.Open > made+1 || f.Refused != 0 {
		t.Errorf("free counts %+v", f)
	}
	if most := before.sockets + bound + made; during.sockets > most {
		t.Errorf("%d sockets, expected %d at most", during.sockets, most)
	}
	for _, k := range talks {
		k.say()
		k.conn.Close()
	}
	d.letsGo(before)
	for _, port := range []string{":9000", ":9001"} {
		if _, err := lab.Client.Call(t.Context(), "udp", netlab.RouterWAN4+port); err != nil {
			t.Errorf("a newcomer after the flood: %v", err)
		}
	}
	d.endsAsNew()
}
