package pmpserver

import (
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/fairlead-net/fairlead/forward"
	"github.com/fairlead-net/fairlead/internal/netlab"
	"github.com/fairlead-net/fairlead/portmap"
)

// torrent is a session that has its port mapped, tells what came of it until it is told to end, and deletes the mappings.
const torrent = `
import libtorrent as lt, sys, threading
s = lt.session({"listen_interfaces": "192.168.1.10:6881", "enable_natpmp": True, "enable_upnp": False, "enable_dht": False, "enable_lsd": False,
    "alert_mask": lt.alert.category_t.port_mapping_notification | lt.alert.category_t.port_mapping_log_notification})
end = threading.Event()
threading.Thread(target=lambda: (sys.stdin.read(), end.set()), daemon=True).start()
def tell():
    for a in s.pop_alerts():
        print(type(a).__name__, a.message(), flush=True)
while not end.is_set():
    s.wait_for_alert(100)
    tell()
s.pause()
s.delete_port_mapping(0)
s.apply_settings({"enable_natpmp": False})
end.wait(1)
tell()
`

// python is the one that the system's modules are for.
const python = "/usr/bin/python3"

// TestLibtorrent is a client that speaks PCP first and does NAT-PMP when that is not spoken.
func TestLibtorrent(t *testing.T) {
	if out, err := exec.Command(python, "-c", "import libtorrent").CombinedOutput(); err != nil {
		if os.Getenv(netlab.RequireEnv) == "require" {
			t.Fatalf("python3-libtorrent: %v %s", err, out)
		}
		t.Skipf("python3-libtorrent is not installed: %v", err)
	}
	for _, p := range [][]portmap.Protocol{{portmap.NATPMP, portmap.PCP}, {portmap.NATPMP}} {
		t.Run(string(p[len(p)-1]), func(t *testing.T) {
			h := newHome(t)
			h.stop()
			h.server = New(Options{Desk: h.desk, Places: h.server.o.Places, Spec: portmap.Spec{Protocols: p}})
			start(t, h.server, h.gateway.Do)
			cmd := h.client.Command(t.Context(), python, "-c", torrent)
			stdin, err := cmd.StdinPipe()
			if err != nil {
				t.Fatal(err)
			}
			process, err := h.client.StartCommand(cmd)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(process.Kill)
			keys := []portmap.Key{
				{Network: forward.TCP, Internal: netip.MustParseAddrPort(client4 + ":6881")}, {Network: forward.UDP, Internal: netip.MustParseAddrPort(client4 + ":6881")},
			}
			process.WaitOutput(t, `portmap_alert.*successfully`)
			eventually(t, "TCP and UDP are mapped", func() bool {
				_, tcp := h.desk.ByKey(keys[0])
				_, udp := h.desk.ByKey(keys[1])
				return tcp && udp
			})
			for _, key := range keys {
				if m, _ := h.desk.ByKey(key); m.Protocol != p[len(p)-1] || m.Client.String() != client4 {
					t.Errorf("the mapping is %+v", m)
				}
			}
			stdin.Close()
			<-process.Done()
			for line := range strings.Lines(process.Output()) {
				if strings.Contains(line, "portmap_error_alert") {
					t.Error(line)
				}
			}
			eventually(t, "the mappings are deleted", func() bool { return len(h.desk.Of(netip.Addr{})) == 0 })
		})
	}
}
