package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/fairlead-net/fairlead/internal/netlab"
)

// TestUpgrade replaces the daemon by another program, again and again, while clients come and go: nobody is refused or reset,
// and those who talk go on talking.
func TestUpgrade(t *testing.T) {
	lab := netlab.Gateway(t)
	lab.Server.Echo(t, "[::]:8080")
	d := up(t, lab.Host, `[forward.relayed]
listen = "tcp/9000"
to = "192.168.1.10:8080"
carry = "relay"
[forward.datagrams]
listen = "udp/9003"
to = "192.168.1.10:8080"
carry = "relay"
[forward.named]
listen = "tcp/9001"
to = "name.invalid:8080"
[forward.translated]
listen = "tcp+udp/9002"
to = "192.168.1.10:8080"
`)
	at := "/" + netlab.RouterWAN4 + ":"
	talks := []*talk{
		dial(t, lab.Client, "tcp"+at+"9000"), dial(t, lab.Client, "tcp"+at+"9000"),
		dial(t, lab.Client, "tcp"+at+"9002"), dial(t, lab.Client, "udp"+at+"9002"),
		dial(t, lab.Client, "udp"+at+"9003"),
	}
	for _, k := range talks {
		k.say()
	}
	callers := keepCalling(t, 4, 0, lab.Client, "tcp", netlab.RouterWAN4+":9000")
	other := filepath.Join(d.dir, "fairlead-next")
	program, err := os.ReadFile(binary)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(other, program, 0o755); err != nil {
		t.Fatal(err)
	}
	pid := d.proc.Pid()
	for round, program := range []string{other, binary, other} {
		since := callers.calls.Load()
		if out := d.run("upgrade", "--binary", program); !strings.Contains(out, fmt.Sprintf("(process %d)", pid)) {
			t.Errorf("upgrade says %q, and the process is %d", out, pid)
		}
		for _, k := range talks {
			k.say()
		}
		waitFor(t, "more calls", func() bool { return callers.calls.Load() >= since+20 })
		if exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid)); err != nil || exe != program {
			t.Errorf("round %d: the process runs %s, %v, not %s", round, exe, err, program)
		}
	}
	callers.stop()
	t.Logf("%d calls during three upgrades", callers.calls.Load())
	waitFor(t, "all sessions to be counted once", func() bool {
		f := d.status()["relayed"]
		return f.Connections.Total == uint64(callers.calls.Load())+2 && f.Connections.Open == 2 && f.Connections.Refused == 0
	})
	if list := d.sessions("datagrams"); len(list) != 1 || list[0].Bytes.In == 0 || d.status()["datagrams"].Connections.Total != 1 {
		t.Errorf("flows: %+v", list)
	}
	if list := d.sessions("relayed"); len(list) != 2 || list[0].Bytes.In == 0 {
		t.Errorf("sessions: %+v", list)
	}
}

// TestUpgradeRefused keeps the daemon running where the other program cannot stand in.
func TestUpgradeRefused(t *testing.T) {
	lab := netlab.Gateway(t)
	lab.Server.Echo(t, "[::]:8080")
	d := up(t, lab.Host, "[forward.x]\nlisten = \"9000\"\nto = \"192.168.1.10:8080\"\ncarry = \"relay\"\n")
	k := dial(t, lab.Client, "tcp/"+netlab.RouterWAN4+":9000")
	started := time.Now()
	for program, why := range map[string]string{"/bin/true": "does not say what it can take over", "/bin/false": "does not run", "/nowhere": "does not run"} {
		if out, err := d.try("upgrade", "--binary", program); err == nil || !strings.Contains(out, why) {
			t.Errorf("%s: %v, %q", program, err, out)
		}
	}
	t.Logf("refused three in %v", time.Since(started))
	k.say()
	d.write("this is no configuration")
	if out, err := d.try("upgrade", "--binary", binary); err == nil || !strings.Contains(out, "does not accept") {
		t.Errorf("%v, %q", err, out)
	}
	k.say()
}
