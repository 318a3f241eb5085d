package igd

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/fairlead-net/fairlead/internal/netlab"
)

// need skips a test whose program is not installed, or fails where everything must run.
func need(t *testing.T, program string) {
	t.Helper()
	if _, err := exec.LookPath(program); err != nil {
		if os.Getenv(netlab.RequireEnv) == "require" {
			t.Fatalf("%s is not installed, and %s=require", program, netlab.RequireEnv)
		}
		t.Skipf("%s is not installed", program)
	}
}

// try runs a program on a host, and returns all that it wrote, however it ended.
func try(t *testing.T, n *netlab.Node, name string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	out, err := n.Command(ctx, name, args...).CombinedOutput()
	t.Logf("%s %s (%v):\n%s", name, strings.Join(args, " "), err, out)
	return string(out)
}

func wants(t *testing.T, text string, parts ...string) {
	t.Helper()
	for _, p := range parts {
		if !strings.Contains(text, p) {
			t.Errorf("%q is missing", p)
		}
	}
}

// rootURL is where a program found the description.
func rootURL(t *testing.T, out string) string {
	t.Helper()
	_, rest, found := strings.Cut(out, "desc: ")
	if !found {
		t.Fatal("no gateway was found")
	}
	return strings.Fields(rest)[0]
}

func TestUpnpc(t *testing.T) {
	need(t, "upnpc")
	t.Parallel() // the programs wait for answers that do not come, rather than compute
	for _, igd := range []string{"1", "2"} {
		t.Run("version "+igd, func(t *testing.T) {
			t.Parallel()
			top := netlab.Gateway(t)
			s := startServer(t, top.Router, igd, "lan")
			var out string
			if igd == "1" {
				out = try(t, top.Server, "upnpc", "-s") // which searches for two seconds
			} else {
				out = try(t, top.Server, "upnpc", "-u", find(t, top.Server, netlab.Server4), "-s")
			}
			wants(t, out, "Found valid IGD : http://192.168.1.1:", "Status : Connected", "MaxBitRateDown : 1000000000 bps",
				"ExternalIPAddress = 11.22.33.44", "Bytes:   Sent:     1000")
			at := find(t, top.Server, netlab.Server4)
			wants(t, try(t, top.Server, "upnpc", "-u", at, "-e", "a & b", "-a", netlab.Server4, "80", "8080", "TCP", "3600"),
				"external 11.22.33.44:8080 TCP is redirected to internal 192.168.1.10:80 (duration=3600)")
			wants(t, try(t, top.Server, "upnpc", "-u", at, "-l"), "TCP  8080->192.168.1.10:80    'a &amp; b' ''")
			if out := try(t, top.Peer, "upnpc", "-u", at, "-l"); strings.Contains(out, "8080") {
				t.Error("somebody else's mapping is listed")
			}
			wants(t, try(t, top.Peer, "upnpc", "-u", at, "-a", netlab.Peer4, "80", "8080", "TCP"), "failed with code 718 (ConflictInMappingEntry)")
			wants(t, try(t, top.Server, "upnpc", "-u", at, "-n", netlab.Server4, "81", "8080", "TCP"), map[string]string{"1": "401", "2": "external 11.22.33.44:8081"}[igd])
			wants(t, try(t, top.Server, "upnpc", "-u", at, "-d", "8080", "TCP"), "UPNP_DeletePortMapping() returned : 0")
			wants(t, try(t, top.Server, "upnpc", "-u", at, "-d", "8080", "TCP"), "714")
			wants(t, try(t, top.Server, "upnpc", "-u", at, "-r", "9000", "udp"), "external 11.22.33.44:9000 UDP is redirected to internal 192.168.1.10:9000 (duration=")
			s.tell("list")
			wants(t, s.Output(), `lease udp 11.22.33.44:9000 -> 192.168.1.10:9000 "libminiupnpc"`)
		})
	}
}

func TestUpnpcOverIPv6(t *testing.T) {
	need(t, "upnpc")
	t.Parallel()
	top := netlab.Gateway(t)
	s := startServer(t, top.Router, "1", "lan")
	out := try(t, top.Server, "upnpc", "-6", "-S")
	at := rootURL(t, out)
	wants(t, out, "FirewallEnabled: 1 & Inbound Pinhole Allowed: 1")
	out = try(t, top.Server, "upnpc", "-6", "-u", at, "-m", "eth0", "-A", "", "0", netlab.Server6, "8080", "TCP", "3600")
	wants(t, out, "Pinhole ID = ")
	_, id, _ := strings.Cut(out, "Pinhole ID = ")
	if id, _, _ = strings.Cut(id, "\n"); id == "" {
		t.FailNow()
	}
	wants(t, try(t, top.Server, "upnpc", "-6", "-u", at, "-K", id), "PinholePackets = 7")
	wants(t, try(t, top.Server, "upnpc", "-6", "-u", at, "-U", id, "60"), "UpdatePinhole: Pinhole ID = "+id+" with Lease Time: 60")
	wants(t, try(t, top.Peer, "upnpc", "-6", "-u", at, "-D", id), "606")
	s.tell("list")
	wants(t, s.Output(), "lease tcp fd00:1::10:8080 -> [fd00:1::10]:8080")
	wants(t, try(t, top.Server, "upnpc", "-6", "-u", at, "-D", id), "UPNP_DeletePinhole() returned : 0")
}

func TestGSSDP(t *testing.T) {
	need(t, "gssdp-discover")
	t.Parallel()
	top := netlab.Gateway(t)
	startServer(t, top.Router, "1", "lan")
	wants(t, try(t, top.Server, "gssdp-discover", "-i", "eth0", "--timeout=1", "--target=ssdp:all"),
		"urn:schemas-upnp-org:device:InternetGatewayDevice:1", "urn:schemas-upnp-org:device:WANDevice:1", "urn:schemas-upnp-org:device:WANConnectionDevice:1",
		"urn:schemas-upnp-org:service:WANCommonInterfaceConfig:1", "urn:schemas-upnp-org:service:WANIPConnection:1", "Location: http://192.168.1.1:")
	wants(t, try(t, top.Server, "gssdp-discover", "-i", "eth0", "--timeout=1", "--target=urn:schemas-upnp-org:service:WANIPConnection:1"),
		"resource available", "Location: http://192.168.1.1:")
}

// Transmission maps its port by itself, and by its own account it is open.
func TestTransmission(t *testing.T) {
	need(t, "transmission-daemon")
	t.Parallel()
	top := netlab.Gateway(t)
	s := startServer(t, top.Router, "1", "lan")
	dir := t.TempDir()
	settings := `{"peer-port": 51413, "port-forwarding-enabled": true, "rpc-enabled": false, "dht-enabled": false, "lpd-enabled": false, "utp-enabled": false, "download-dir": "` + dir + `"}`
	if err := os.WriteFile(filepath.Join(dir, "settings.json"), []byte(settings), 0o600); err != nil {
		t.Fatal(err)
	}
	p := top.Server.Start(t, "transmission-daemon", "-f", "--config-dir", dir, "--log-debug")
	p.WaitOutput(t, `Found Internet Gateway Device "http://192.168.1.1:`)
	p.WaitOutput(t, `Local Address is "192.168.1.10"`)
	p.WaitOutput(t, `State changed from "[^"]*" to "Forwarded"`)
	s.tell("list")
	wants(t, s.Output(), `11.22.33.44:51413 -> 192.168.1.10:51413 "Transmission at 51413"`)
	if err := p.Stop(); err != nil {
		t.Log(err)
	}
	for line := range strings.Lines(p.Output()) {
		if strings.Contains(line, "Port Forwarding") {
			t.Log(strings.TrimSpace(line))
		}
	}
}
