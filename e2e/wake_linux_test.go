package e2e

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/fairlead-net/fairlead/forward"
	"github.com/fairlead-net/fairlead/internal/netlab"
	"github.com/fairlead-net/fairlead/wake"
)

const (
	sleeperMAC     = "52:54:00:12:34:ab" // a card that is not there: what matters is what is sent
	sleeperSecret  = "165.165.165.165"
	sleeperPattern = "a5a5a5a5"
)

const wakeFile = `
[forward.nas]
listen = "8445"
to = "192.168.1.10:445"
wake = "` + sleeperMAC + `"
wake_password = "` + sleeperSecret + `"
[forward.web]
listen = "8080"
to = "192.168.1.10:80"
`

// magicPacket is what must arrive.
func magicPacket(t *testing.T, password string) []byte {
	t.Helper()
	mac, err := forward.ParseMAC(sleeperMAC)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := forward.ParseWakePassword(password)
	if err != nil {
		t.Fatal(err)
	}
	return wake.MagicPacket(mac, secret)
}

// A sleeper hears what is sent to the discard port of a host, by broadcast as well.
type sleeper struct{ net.PacketConn }

func newSleeper(t *testing.T, n *netlab.Node) sleeper {
	t.Helper()
	conn, err := n.ListenPacket("udp4", "0.0.0.0:9")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return sleeper{conn}
}

// hear waits for n copies of the packet.
func (s sleeper) hear(t *testing.T, n int, want []byte) {
	t.Helper()
	if err := s.SetReadDeadline(time.Now().Add(15 * time.Second)); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 2048)
	for i := range n {
		size, _, err := s.ReadFrom(buf)
		if err != nil {
			t.Fatalf("packet %d of %d: %v", i+1, n, err)
		}
		if got := hex.EncodeToString(buf[:size]); got != hex.EncodeToString(want) {
			t.Errorf("got %s, want %x", got, want)
		}
	}
}

// TestWakeByAddress wakes a card by its address alone, as an ordinary user, and waits for its host.
func TestWakeByAddress(t *testing.T) {
	lab := netlab.Gateway(t)
	asleep := newSleeper(t, lab.Server)
	packet := magicPacket(t, "")
	p := asNobody(t, lab.Host, "wake", sleeperMAC, "--interface", "lan")
	p.WaitOutput(t, sleeperMAC+`: 6 magic packets sent, by lan\n`)
	asleep.hear(t, 2, packet) // to 255.255.255.255 and 192.168.1.255
	lab.Host.Run(t, binary, "wake", sleeperMAC, "--address", netlab.Server4)
	asleep.hear(t, 3, packet)

	// A port that is closed shows that the host is awake.
	out := lab.Host.Run(t, binary, "wake", sleeperMAC, "--address", netlab.Server4+":445", "--wait", "1m")
	if !strings.Contains(out, netlab.Server4+":445 answers after ") {
		t.Errorf("it is awake, and the command says:\n%s", out)
	}
	// Nobody has this address. It is not silence but the system's time to notice that decides how long a round takes.
	late, err := lab.Host.Command(t.Context(), binary, "wake", sleeperMAC, "--address", "192.168.1.99:445", "--wait", "1s", "--json").CombinedOutput()
	if err == nil || !strings.Contains(string(late), `"awake":false`) || !strings.Contains(string(late), "192.168.1.99:445 did not answer within 1s") {
		t.Errorf("%v:\n%s", err, late)
	}
}

// TestWakeWaits has the host come up only after a second round of packets.
func TestWakeWaits(t *testing.T) {
	lab := netlab.Gateway(t)
	asleep := newSleeper(t, lab.Server)
	lab.Server.Nft(t, "table inet asleep { chain in { type filter hook input priority 0; tcp dport 445 drop; }; }")
	p := lab.Host.Start(t, binary, "wake", sleeperMAC, "--address", netlab.Server4+":445", "--wait", "1m")
	asleep.hear(t, 2*3, magicPacket(t, ""))
	lab.Server.Nft(t, "delete table inet asleep")
	p.WaitOutput(t, netlab.Server4+":445 answers after ")
	if err := p.Wait(t.Context()); err != nil {
		t.Errorf("the host is awake: %v", err)
	}
}

// TestWakeByName has the daemon, which has no right to raw sockets, wake the target of a forward; and the same of a file.
func TestWakeByName(t *testing.T) {
	lab := netlab.Gateway(t)
	asleep := newSleeper(t, lab.Server)
	packet := magicPacket(t, sleeperSecret)
	d := up(t, lab.Host, wakeFile)
	var answer struct {
		Woken []struct {
			MAC       string
			Addresses []string
			Packets   []struct{ Interface, To, Error string }
		}
	}
	out := d.run("wake", "nas", "--json")
	if err := json.Unmarshal([]byte(out), &answer); err != nil || len(answer.Woken) != 1 {
		t.Fatalf("%v: %s", err, out)
	}
	if w := answer.Woken[0]; w.MAC != sleeperMAC || fmt.Sprint(w.Addresses) != "[192.168.1.10]" || len(w.Packets) != 4+2+2 {
		t.Errorf("%+v", w)
	}
	asleep.hear(t, 3, packet)
	// An address that the forward leads to, from the daemon: the host refuses, so it is awake.
	if out := d.run("wake", "nas", "--wait", "1m"); !strings.Contains(out, "192.168.1.10:445 answers after ") {
		t.Errorf("by the daemon: %s", out)
	}
	asleep.hear(t, 3, packet)
	for _, c := range []struct{ name, says string }{{"web", "does not say whom to wake"}, {"nope", `no forward is called "nope"`}} {
		for _, from := range [][]string{nil, {"-c", d.file()}} {
			out, err := d.try(append([]string{"wake", c.name}, from...)...)
			if err == nil || !strings.Contains(out, c.says) {
				t.Errorf("%s %v: %v, %s", c.name, from, err, out)
			}
		}
	}
	said := d.proc.Output() + out
	d.proc.Signal(os.Interrupt)
	if err := d.proc.Wait(t.Context()); err != nil {
		t.Errorf("the daemon: %v", err)
	}
	said += lab.Host.Run(t, binary, "wake", "nas", "-c", d.file(), "--wait", "1m")
	asleep.hear(t, 3, packet)
	for _, secret := range []string{sleeperSecret, sleeperPattern} {
		if strings.Contains(said, secret) {
			t.Errorf("the password shows:\n%s", said)
		}
	}
}
