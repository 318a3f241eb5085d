package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/fairlead-net/fairlead/internal/netlab"
)

// A foreignFirewall is a real firewall program on a host, with configuration of its own: nothing of this machine's is
// touched.
type foreignFirewall struct {
	t    testing.TB
	node *netlab.Node
	wrap []string // runs what follows as that program sees the machine
	env  []string
}

// run runs a command line as the operator of the firewall would.
func (w *foreignFirewall) run(line string) string {
	w.t.Helper()
	args := append(append([]string{}, w.wrap...), "sh", "-c", line)
	cmd := w.node.Command(w.t.Context(), args[0], args[1:]...)
	cmd.Env = append(os.Environ(), w.env...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		w.t.Fatalf("%s: %v\n%s", line, err, out)
	}
	return string(out)
}

// startUFW enables ufw on a host. A mount namespace of each command has a copy of /etc/ufw.
func startUFW(t *testing.T, n *netlab.Node) *foreignFirewall {
	t.Helper()
	needs(t, "ufw", "unshare")
	dir := t.TempDir()
	for _, from := range []string{"/etc/ufw", "/etc/default/ufw"} {
		if out, err := exec.Command("cp", "-a", from, filepath.Join(dir, filepath.Base(filepath.Dir(from))+"-ufw")).CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	pristine, err := filepath.Glob("/usr/share/ufw/iptables/*.rules") // what this machine's operator has added is of no interest
	if err != nil || len(pristine) == 0 {
		t.Fatalf("ufw's own rules are not in /usr/share/ufw: %v", err)
	}
	if out, err := exec.Command("cp", append(pristine, filepath.Join(dir, "etc-ufw"))...).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	defaults := filepath.Join(dir, "default-ufw")
	text, err := os.ReadFile(defaults)
	if err != nil {
		t.Fatal(err)
	}
	write(t, defaults, strings.ReplaceAll(string(text), "IPT_SYSCTL=", "IPT_SYSCTL= #"))
	mounts := fmt.Sprintf("mount --bind %[1]s/etc-ufw /etc/ufw && mount --bind %[1]s/default-ufw /etc/default/ufw && mount -t tmpfs tmpfs /run && exec \"$@\"", dir)
	w := &foreignFirewall{t: t, node: n, wrap: []string{"unshare", "-m", "--propagation", "private", "sh", "-c", mounts, "sh"}}
	w.run("ufw --force enable")
	return w
}

const busConfig = `<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-BUS Bus Configuration 1.0//EN" "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig><type>system</type><listen>unix:path=%s</listen><auth>EXTERNAL</auth>
<policy context="default"><allow user="*"/><allow own="*"/><allow send_destination="*"/><allow receive_sender="*"/></policy></busconfig>
`

// startFirewalld starts firewalld on a host, with a bus and a directory of its own.
func startFirewalld(t *testing.T, n *netlab.Node) *foreignFirewall {
	t.Helper()
	needs(t, "firewalld", "firewall-cmd", "dbus-daemon", "unshare")
	dir, err := os.MkdirTemp("", "fw") // the path of a socket is short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	for _, sub := range []string{"zones", "services", "policies", "icmptypes", "ipsets", "helpers"} {
		if err := os.MkdirAll(filepath.Join(dir, "etc", sub), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	socket := filepath.Join(dir, "bus")
	write(t, filepath.Join(dir, "bus.conf"), fmt.Sprintf(busConfig, socket))
	w := &foreignFirewall{t: t, node: n, env: []string{"DBUS_SYSTEM_BUS_ADDRESS=unix:path=" + socket}}
	n.Start(t, "dbus-daemon", "--config-file="+filepath.Join(dir, "bus.conf"), "--nofork", "--nopidfile")
	waitFor(t, "the bus is there", func() bool { _, err := os.Stat(socket); return err == nil })
	n.Start(t, "env", w.env[0], "unshare", "-m", "--propagation", "private", "sh", "-c",
		"mount -t tmpfs tmpfs /run && mount -t tmpfs tmpfs /var/log && exec firewalld --nofork --nopid --system-config "+dir+"/etc")
	waitFor(t, "firewalld runs", func() bool {
		cmd := n.Command(t.Context(), "firewall-cmd", "--state")
		cmd.Env = append(os.Environ(), w.env...)
		out, _ := cmd.CombinedOutput()
		return strings.TrimSpace(string(out)) == "running"
	})
	return w
}

// reaches reports whether curl at a host gets an answer, for which it waits so many seconds.
func reaches(t *testing.T, n *netlab.Node, url string, most int) bool {
	t.Helper()
	out, err := n.Command(t.Context(), "curl", "-sg", "--max-time", strconv.Itoa(most), url).CombinedOutput()
	return err == nil && strings.TrimSpace(string(out)) == "ok"
}

const blockedFile = `
[forward.web]
listen = "8080"
to = "192.168.1.10:80"
[forward.relayed]
listen = "8081"
to = "192.168.1.10:80"
carry = "relay"
[forward.web6]
listen = "[::]:8082"
to = "[fd00:1::10]:80"
[forward.some]
listen = "8083-8085"
to = "192.168.1.10:80"
carry = "relay"
from = ["203.0.113.0/24"]
`

// urls are where clients reach the forwards of blockedFile.
var urls = map[string]string{
	"web": "http://203.0.113.1:8080", "relayed": "http://203.0.113.1:8081", "web6": "http://[2001:db8:1::1]:8082", "some": "http://203.0.113.1:8084",
}

type checkedForward struct {
	Name     string
	Firewall *struct {
		Owner, Chain, Why string
		Remedy            []string
	}
}

// obstacles is what `fairlead check` says of other firewalls, by forward.
func (d *daemon) obstacles() map[string]checkedForward {
	d.t.Helper()
	var got struct{ Forwards []checkedForward }
	if err := json.Unmarshal([]byte(d.node.Run(d.t, binary, "check", "--json", "-c", d.file())), &got); err != nil {
		d.t.Fatal(err)
	}
	out := map[string]checkedForward{}
	for _, f := range got.Forwards {
		if f.Firewall != nil {
			out[f.Name] = f
		}
	}
	return out
}

// mend runs every remedy that check prints, word by word, and wants curl to get through where it did not before.
func mend(t *testing.T, d *daemon, lab *netlab.Topology, w *foreignFirewall, owner string, blocked ...string) {
	t.Helper()
	found := d.obstacles()
	status := d.status()
	for name, url := range urls {
		expected := false
		for _, b := range blocked {
			expected = expected || b == name
		}
		f, is := found[name]
		if is != expected || is && f.Firewall.Owner != owner {
			t.Fatalf("check says of %s: %+v, expected %q to be in the way: %v", name, f.Firewall, owner, expected)
		}
		if strings.Contains(status[name].Detail, owner+" drops") != expected {
			t.Errorf("status says of %s: %q", name, status[name].Detail)
		}
		most := 20
		if expected {
			most = 1 // what is dropped is never answered
		}
		if reaches(t, lab.Client, url, most) == expected {
			t.Errorf("%s is reached: %v", name, !expected)
		}
	}
	if t.Failed() {
		return
	}
	for name, f := range found {
		for _, line := range f.Firewall.Remedy {
			w.run(line)
		}
		if !reaches(t, lab.Client, urls[name], 20) {
			t.Errorf("%s is not reached after %q", name, f.Firewall.Remedy)
		}
	}
	if left := d.obstacles(); len(left) > 0 {
		t.Errorf("check still says %v", left)
	}
	d.wait("status says nothing of "+owner, func() bool {
		for _, f := range d.status() {
			if strings.Contains(f.Detail, owner) {
				return false
			}
		}
		return true
	})
}

func TestUFWRemedies(t *testing.T) {

	lab := netlab.Gateway(t)
	addresses(t, lab.Server)
	w := startUFW(t, lab.Host)
	d := up(t, lab.Host, blockedFile)
	d.wait("the daemon has looked at ufw", func() bool { return strings.Contains(d.status()["web"].Detail, "ufw drops") })
	d.proc.WaitOutput(t, `another firewall drops what a forward lets in.*ufw`)
	mend(t, d, lab, w, "ufw", "web", "relayed", "web6", "some")
}

func TestFirewalldRemedies(t *testing.T) {

	lab := netlab.Gateway(t)
	addresses(t, lab.Server)
	w := startFirewalld(t, lab.Host)
	d := up(t, lab.Host, blockedFile)
	d.wait("the daemon has looked at firewalld", func() bool { return strings.Contains(d.status()["relayed"].Detail, "firewalld drops") })
	mend(t, d, lab, w, "firewalld", "relayed", "some") // what was translated it accepts by itself
}

// coexists runs a daemon with coexist = "auto" beside a firewall that drops all its forwards, has that read its rules again,
// kills the daemon, and compares the rules before and after.
func coexists(t *testing.T, lab *netlab.Topology, w *foreignFirewall, reload string) {
	t.Helper()
	addresses(t, lab.Server)
	rules := func() string { return lab.Host.Run(t, "nft", "-s", "list", "ruleset") }
	w.run(reload)
	before := rules()
	d := up(t, lab.Host, blockedFile+"[gateway]\ncoexist = \"auto\"\n")
	all := func(when string, names ...string) {
		t.Helper()
		for _, name := range names {
			waitFor(t, name+" is reached "+when, func() bool { return reaches(t, lab.Client, urls[name], 2) })
		}
	}
	all("at first", "web", "relayed", "web6", "some")
	if reaches(t, lab.Client, "http://203.0.113.1:80", 1) || lab.Host.Listening("tcp", 80) {
		t.Error("port 80 is no forward's")
	}
	w.run(reload)
	all("after "+reload, "web", "relayed", "web6", "some")
	d.run("add", "late", "8090", "192.168.1.10:80")
	waitFor(t, "a forward that came later is reached", func() bool { return reaches(t, lab.Client, "http://203.0.113.1:8090", 2) })
	d.run("rm", "late")
	if left := d.obstacles(); len(left) > 0 {
		t.Errorf("check says of what is let through: %v", left)
	}
	d.proc.Kill()
	all("after the daemon was killed", "web", "web6")
	d.start()
	all("with the next daemon", "web", "relayed", "web6", "some")
	for name, f := range d.status() {
		if strings.Contains(f.Detail, "drops") {
			t.Errorf("status says of %s: %s", name, f.Detail)
		}
	}
	d.run("down")
	time.Sleep(10 * time.Millisecond)
	if after := rules(); after != before {
		t.Errorf("after down the rules are\n%s\nthey were\n%s", after, before)
	}
}

func TestCoexistWithUFW(t *testing.T) {

	lab := netlab.Gateway(t)
	coexists(t, lab, startUFW(t, lab.Host), "ufw reload")
}

func TestCoexistWithFirewalld(t *testing.T) {

	lab := netlab.Gateway(t)
	coexists(t, lab, startFirewalld(t, lab.Host), "firewall-cmd --reload")
}
