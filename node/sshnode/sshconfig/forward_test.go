package sshconfig

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// The table is ssh(1): every form of -L, -R and -D, with and without a bind address. Empty is refused. theirs is whether
// OpenSSH takes the same, where that differs from us.
var forwardTable = []struct {
	side Side
	spec string
	want string // listen > to
}{
	// -L [bind_address:]port:host:hostport
	{Local, "8080:h:80", "8080 > h:80"},
	{Local, "127.0.0.1:8080:h:80", "127.0.0.1:8080 > h:80"},
	{Local, "[::1]:8080:[2001:db8::1]:80", "[::1]:8080 > [2001:db8::1]:80"},
	{Local, "localhost:8080:h:80", "localhost:8080 > h:80"},
	{Local, "*:8080:h:80", "*:8080 > h:80"},
	{Local, ":8080:h:80", ":8080 > h:80"},
	{Local, "[]:8080:h:80", ":8080 > h:80"},
	{Local, "[8080]:h:[80]", "8080 > h:80"},
	{Local, "ssh:h:http", "22 > h:80"},
	{Local, " 8080:h:80", "8080 > h:80"},
	{Local, "8080:h:80:", "8080 > h:80"},
	// -L [bind_address:]port:remote_socket
	{Local, "8080:/run/s", "8080 > /run/s"},
	{Local, "127.0.0.1:8080:/run/s", "127.0.0.1:8080 > /run/s"},
	{Local, "8080:./s", "8080 > ./s"},
	{Local, `8080:/run/a\:b`, "8080 > /run/a:b"},
	{Local, "8080:[/run/a:b]", "8080 > /run/a:b"},
	// -L local_socket:host:hostport
	{Local, "/run/l:h:80", "/run/l > h:80"},
	{Local, "./l:[::1]:80", "./l > [::1]:80"},
	// -L local_socket:remote_socket
	{Local, "/run/l:/run/s", "/run/l > /run/s"},
	// what -L refuses
	{Local, "", ""}, {Local, "8080", ""}, {Local, "8080:80", ""}, {Local, "h:8080:80", ""}, {Local, "8080:h:0", ""}, {Local, "0:h:80", ""},
	{Local, "8080:h:80:90:1", ""}, {Local, "a:b:c:d", ""}, {Local, "::1:8080:h:80", ""}, {Local, "[::1:8080:h:80", ""}, {Local, "[::1]x:8080:h:80", ""},
	{Local, "70000:h:80", ""}, {Local, "-1:h:80", ""}, {Local, "/run/l", ""}, {Local, "/run/l:80", ""}, {Local, `8080:h:80\`, ""},
	{Local, "8080:/" + strings.Repeat("x", 120), ""}, {Local, "/a:80:/b", ""},

	// -R, the same four, port 0, and dynamic
	{Remote, "9000:h:80", "9000 > h:80"},
	{Remote, "0:h:80", "0 > h:80"},
	{Remote, "10.0.0.1:9000:h:80", "10.0.0.1:9000 > h:80"},
	{Remote, "*:9000:h:80", "*:9000 > h:80"},
	{Remote, ":9000:h:80", ":9000 > h:80"},
	{Remote, "[::]:0:[::1]:80", "[::]:0 > [::1]:80"},
	{Remote, "9000:/run/l", "9000 > /run/l"},
	{Remote, "localhost:9000:/run/l", "localhost:9000 > /run/l"},
	{Remote, "/run/r:h:80", "/run/r > h:80"},
	{Remote, "/run/r:/run/l", "/run/r > /run/l"},
	{Remote, "1080", "1080 > socks"},
	{Remote, "0", "0 > socks"},
	{Remote, "*:1080", "*:1080 > socks"},
	{Remote, ":1080", ":1080 > socks"},
	{Remote, "[::1]:1080", "[::1]:1080 > socks"},
	{Remote, "/run/r", "/run/r > socks"},
	{Remote, "h:80:90", ""}, {Remote, "x", ""}, {Remote, "", ""}, {Remote, "9000:h:0", ""},

	// -D [bind_address:]port
	{Dynamic, "1080", "1080 > socks"},
	{Dynamic, "127.0.0.1:1080", "127.0.0.1:1080 > socks"},
	{Dynamic, "[::1]:1080", "[::1]:1080 > socks"},
	{Dynamic, "*:1080", "*:1080 > socks"},
	{Dynamic, ":1080", ":1080 > socks"},
	{Dynamic, "/run/d", "/run/d > socks"},
	{Dynamic, "socks", "1080 > socks"},
	{Dynamic, "0", ""}, {Dynamic, "1080:h:80", ""}, {Dynamic, "x", ""}, {Dynamic, "", ""},
}

func testService(name string) (uint16, bool) {
	port, ok := map[string]uint16{"ssh": 22, "http": 80, "socks": 1080}[name]
	return port, ok
}

func TestForwards(t *testing.T) {
	for _, row := range forwardTable {
		f, err := ParseForward(row.spec, row.side, testService)
		got := ""
		if err == nil {
			to := "socks"
			if !f.Dynamic {
				to = f.To.String()
			}
			got = f.Listen.String() + " > " + to
		}
		if got != row.want {
			t.Errorf("-%c %s: %q (%v), want %q", "LRD"[row.side], row.spec, got, err, row.want)
		}
	}
}

// TestForwardsLikeOpenSSH asks the real program about every row.
func TestForwardsLikeOpenSSH(t *testing.T) {
	if _, err := exec.LookPath("ssh"); err != nil {
		if os.Getenv("FAIRLEAD_NETNS") == "require" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	for _, row := range forwardTable {
		out, err := exec.Command("ssh", "-G", "-F", "none", "-"+"LRD"[row.side:row.side+1], row.spec, "host").CombinedOutput()
		taken := err == nil
		if taken != (row.want != "") {
			t.Errorf("-%c %s: OpenSSH takes it: %v (%s), and we are to say %q", "LRD"[row.side], row.spec, taken, strings.TrimSpace(string(out)), row.want)
			continue
		}
		if !taken {
			continue
		}
		f, err := ParseForward(row.spec, row.side, Service)
		if err != nil {
			t.Error(err)
			continue
		}
		line := fmt.Sprintf("localforward %s %s", dumped(f.Listen), dumped(f.To))
		switch {
		case f.Dynamic && row.side == Remote:
			line = fmt.Sprintf("remoteforward %s [socks]:0", dumped(f.Listen))
		case f.Dynamic:
			line = "dynamicforward " + dumped(f.Listen)
		case row.side == Remote:
			line = fmt.Sprintf("remoteforward %s %s", dumped(f.Listen), dumped(f.To))
		}
		if !strings.Contains(string(out), line+"\n") {
			t.Errorf("-%c %s: OpenSSH does not say %q:\n%s", "LRD"[row.side], row.spec, line, grep(string(out), "forward "))
		}
	}
}

func grep(text, word string) string {
	var kept []string
	for line := range strings.Lines(text) {
		if strings.Contains(line, word) {
			kept = append(kept, line)
		}
	}
	return strings.Join(kept, "")
}

func FuzzParseForward(f *testing.F) {
	for _, row := range forwardTable {
		f.Add(row.spec, uint8(row.side))
	}
	f.Fuzz(func(t *testing.T, spec string, side uint8) {
		fw, err := ParseForward(spec, Side(side%3), testService)
		if err == nil && !fw.Dynamic && fw.To == (End{}) {
			t.Errorf("%q leads nowhere: %+v", spec, fw)
		}
	})
}

func FuzzParseDestination(f *testing.F) {
	for _, s := range []string{"u@h:22", "ssh://u@[::1]:22/", "[::1]", "a@b@c"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		for _, parse := range []func(string) (Destination, error){ParseDestination, ParseTarget} {
			if d, err := parse(s); err == nil && d.Host == "" {
				t.Errorf("%q has no host", s)
			}
		}
	})
}
