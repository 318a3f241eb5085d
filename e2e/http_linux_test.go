package e2e

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/fairlead-net/fairlead/internal/netlab"
)

// everyBody is a script for wrk that compares each response with a file, and says how many differed.
const everyBody = `
local threads = {}
function setup(thread) table.insert(threads, thread) end
function init(args)
  local file = io.open(args[1], "rb")
  expected, differ, came = file:read("*a"), 0, 0
  file:close()
  if args[2] then wrk.headers["Connection"] = args[2] end
end
function response(status, headers, body)
  came = came + 1
  if status ~= 200 or body ~= expected then differ = differ + 1 end
end
function done(summary)
  local came, differ, e = 0, 0, summary.errors
  for _, thread in ipairs(threads) do came, differ = came + thread:get("came"), differ + thread:get("differ") end
  print(string.format("came %d differ %d errors %d", came, differ, e.connect + e.read + e.write + e.status + e.timeout))
end
`

// random is n bytes that no other seed gives, and their hash.
func random(seed uint64, n int) (data, sum string) {
	var key [32]byte
	key[0] = byte(seed)
	b := make([]byte, n)
	_, _ = rand.NewChaCha8(key).Read(b)
	h := sha256.Sum256(b)
	return string(b), hex.EncodeToString(h[:])
}

// TestWrk has wrk ask nginx for files as fast as it can, on connections that stay and on one for each request. No request
// fails, every body is right, and nginx and the relay count what wrk counts.
func TestWrk(t *testing.T) {
	needs(t, "wrk")
	const connections = 32
	lab := netlab.Gateway(t)
	log := nginx(t, lab.Server, 8080)
	dir := filepath.Dir(log)
	small, _ := random(1, 3000)
	large, sum := random(2, 5<<20)
	write(t, filepath.Join(dir, "small"), small)
	write(t, filepath.Join(dir, "large"), large)
	script := filepath.Join(dir, "every.lua")
	write(t, script, everyBody)
	d := up(t, lab.Host, "[forward.web]\nlisten = \"80\"\nto = \"192.168.1.10:8080\"\ncarry = \"relay\"\n")
	download := func() {
		t.Helper()
		out := lab.Client.Run(t, "sh", "-c", "curl -sSf -m 10 http://203.0.113.1/large | sha256sum")
		if !strings.HasPrefix(out, sum) {
			t.Errorf("the file came with the hash %q, not %s", out, sum)
		}
	}
	download()
	before := d.holds()
	for _, c := range []struct {
		path string
		args []string
	}{
		{"small", nil}, {"small", []string{"close"}}, {"big", nil},
	} {
		write(t, log, "")
		sessions := d.status()["web"].Connections.Total
		args := []string{"-t2", fmt.Sprint("-c", connections), "-d1s", "-s", script, "http://203.0.113.1/" + c.path, "--", filepath.Join(dir, c.path)}
		out := lab.Client.Run(t, "wrk", append(args, c.args...)...)
		m := regexp.MustCompile(`came (\d+) differ 0 errors 0\n`).FindStringSubmatch(out)
		if m == nil {
			t.Fatalf("wrk %s %v:\n%s", c.path, c.args, out)
		}
		came, _ := strconv.Atoi(m[1])
		d.letsGo(before)
		served := strings.Count(read(t, log), "\n")
		if served < came || served > came+connections { // those of the last moment are on their way
			t.Errorf("%s %v: %d responses came, nginx served %d", c.path, c.args, came, served)
		}
		sessions = d.status()["web"].Connections.Total - sessions
		// wrk tries the address, too, and nginx ends a connection after 1,000 requests.
		least, most := uint64(connections), uint64(connections+2+served/1000)
		if c.args != nil {
			least, most = uint64(came), uint64(served+connections+2)
		}
		if came < connections || sessions < least || sessions > most {
			t.Errorf("%s %v: %d responses and %d sessions, expected %d to %d", c.path, c.args, came, sessions, least, most)
		}
		t.Logf("%s %v: %d responses, %d served, %d sessions", c.path, c.args, came, served, sessions)
	}
	download()
	if f := d.status()["web"]; f.Connections.Refused != 0 {
		t.Errorf("counts %+v", f.Connections)
	}
	d.endsAsNew()
}
