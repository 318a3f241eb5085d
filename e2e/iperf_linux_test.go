package e2e

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/fairlead-net/fairlead/internal/netlab"
)

// An iperfReport is what this test reads of iperf3's: a sum has all streams of a direction.
type iperfReport struct {
	End struct {
		Sum          iperfSum // of datagrams
		Received     iperfSum `json:"sum_received"`
		ReceivedBack iperfSum `json:"sum_received_bidir_reverse"` // with --bidir, what the server sent
	}
}

type iperfSum struct {
	Bytes, Packets float64
	Lost           float64 `json:"lost_packets"`
}

// TestIperf has iperf3 measure through the relay: each direction, both at once, several streams, and datagrams. How fast that
// is does not matter here; no datagram is lost, and the relay counts what iperf3 counts.
func TestIperf(t *testing.T) {
	lab := netlab.Gateway(t)
	lab.Server.Start(t, "iperf3", "-s")
	lab.Server.WaitListen(t, "tcp", 5201)
	d := up(t, lab.Host, "[forward.speed]\nlisten = \"tcp+udp/5201\"\nto = \"192.168.1.10\"\ncarry = \"relay\"\nudp_idle = \"1s\"\n")
	d.expect("speed relay up")
	before := d.holds()
	for _, args := range []string{
		"-n 100M", "-n 100M -R", "-n 100M -P 4", "-n 100M -P 4 -R", "-t 1 --bidir",
		"-u -b 10M -n 1M -l 1200", "-u -b 10M -n 1M -l 1200 -R", "-u -b 10M -n 1M -l 1200 -P 4",
	} {
		was := d.status()["speed"]
		out := lab.Client.Run(t, "iperf3", append([]string{"-J", "-c", "203.0.113.1"}, strings.Fields(args)...)...)
		var report iperfReport
		if err := json.Unmarshal([]byte(out), &report); err != nil {
			t.Fatalf("iperf3 %s: %v\n%s", args, err, out)
		}
		got := report.End
		d.wait("its streams are at their end", func() bool {
			return !slices.ContainsFunc(d.sessions("speed"), func(s sessionStatus) bool { return s.Network == "tcp" })
		})
		now := d.status()["speed"]
		in, back := float64(now.Bytes.In-was.Bytes.In), float64(now.Bytes.Out-was.Bytes.Out)
		t.Logf("iperf3 %s: %+v; the relay counts %.0f in, %.0f out", args, got, in, back)
		if strings.Contains(args, "-R") {
			in, back = back, in
		}
		// iperf3 stops to count when it has had enough, or as long as it was told to.
		if got.Received.Bytes < 900e3 || in < got.Received.Bytes || back < got.ReceivedBack.Bytes {
			t.Errorf("iperf3 %s: %+v; the relay counts %.0f that way, %.0f back", args, got, in, back)
		}
		if strings.Contains(args, "--bidir") && got.ReceivedBack.Bytes < 900e3 {
			t.Errorf("iperf3 %s: %+v", args, got)
		}
		if strings.Contains(args, "-u") && (got.Sum.Packets < 800 || got.Sum.Lost != 0) {
			t.Errorf("iperf3 %s: %+v", args, got.Sum)
		}
	}
	d.letsGo(before)
	d.endsAsNew()
}
