package e2e

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fairlead-net/fairlead/internal/netlab"
)

// soakVariable is for how long to soak, as time.ParseDuration has it; the relay's own test takes it, too.
const soakVariable = "FAIRLEAD_SOAK"

// soakTime is kept short where nobody asks for more: it is a test for every change.
func soakTime(t *testing.T) time.Duration {
	t.Helper()
	s := os.Getenv(soakVariable)
	if s == "" {
		return 5 * time.Second
	}
	length, err := time.ParseDuration(s)
	if err != nil {
		t.Fatalf("%s: %v", soakVariable, err)
	}
	return length
}

// TestSoak carries everything at once for a while: downloads of curl from nginx, uploads to a socat that answers with their
// hash, echoes of socat, datagrams, and clients that go away in the middle. What arrives is compared by hash, and at the end
// nothing is left.
func TestSoak(t *testing.T) {
	lab := netlab.Gateway(t)
	log := nginx(t, lab.Server, 8080)
	dir := filepath.Dir(log)
	sums := map[string]string{}
	for i, size := range []int{0, 1, 1500, 70_000, 1 << 20, 9<<20 + 7} {
		name := fmt.Sprint("file", i)
		var text string
		text, sums[name] = random(uint64(i), size)
		write(t, filepath.Join(dir, name), text)
	}
	// Not socat's own PIPE, in whose writing it is stuck once in a few thousand times, without a relay, too.
	lab.Peer.Start(t, "socat", "-t10", "TCP-LISTEN:9001,fork,reuseaddr,backlog=100", "EXEC:cat")
	lab.Peer.Start(t, "socat", "-t10", "TCP-LISTEN:9002,fork,reuseaddr,backlog=100", "EXEC:sha256sum")
	lab.Peer.Echo(t, "[::]:9003")
	for _, port := range []int{9001, 9002} {
		lab.Peer.WaitListen(t, "tcp", port)
	}
	d := up(t, lab.Host, `
[forward.web]
listen = "80"
to = "192.168.1.10:8080"
carry = "relay"
[forward.echo]
listen = "9001-9002"
to = "192.168.1.20"
carry = "relay"
[forward.datagrams]
listen = "udp/9003"
to = "192.168.1.20:9003"
carry = "relay"
udp_idle = "1s"
`)
	d.expect("web relay up", "echo relay up", "datagrams relay up")
	before := d.holds()

	ctx, cancel := context.WithTimeout(t.Context(), soakTime(t))
	defer cancel()
	s := soaker{client: lab.Client, sums: sums}
	var workers sync.WaitGroup
	var mu sync.Mutex
	done := map[string]int{}
	for name, job := range map[string]func(*rand.Rand) error{
		"downloads": s.download, "uploads": s.upload, "echoes": s.echo, "datagrams": s.datagrams, "gone": s.goAway,
	} {
		for i := range uint64(3) {
			workers.Go(func() {
				r := rand.New(rand.NewPCG(i, 1))
				for ctx.Err() == nil {
					if err := job(r); err != nil {
						t.Errorf("%s, worker %d: %v", name, i, err)
						return
					}
					mu.Lock()
					done[name]++
					mu.Unlock()
				}
			})
		}
	}
	workers.Wait()
	t.Logf("%v, %d MB", done, s.bytes.Load()>>20)
	d.letsGo(before)
	var carried uint64
	for name, f := range d.status() {
		carried += f.Bytes.In + f.Bytes.Out
		if f.Connections.Refused != 0 {
			t.Errorf("%s counts %+v", name, f.Connections)
		}
	}
	if carried < s.bytes.Load() {
		t.Errorf("%d bytes were compared, and the relay counts %d", s.bytes.Load(), carried)
	}
	d.endsAsNew()
}

// A soaker does the jobs of TestSoak. Each takes its own connection and checks all that comes.
type soaker struct {
	client *netlab.Node
	sums   map[string]string // of the files that the web server has
	bytes  atomic.Uint64     // compared
}

// patience ends what hangs.
const patience = 15 * time.Second

func hashed(b []byte) string { h := sha256.Sum256(b); return hex.EncodeToString(h[:]) }

func (s *soaker) run(stdin io.Reader, name string, args ...string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	cmd := s.client.Command(ctx, name, args...)
	var stderr strings.Builder
	cmd.Stdin, cmd.Stderr = stdin, &stderr
	out, err := cmd.Output()
	if err != nil {
		err = fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, stderr.String())
	}
	return out, err
}

func (s *soaker) download(r *rand.Rand) error {
	name := fmt.Sprint("file", r.IntN(len(s.sums)))
	body, err := s.run(nil, "curl", "-sSf", "http://203.0.113.1/"+name)
	if err == nil && hashed(body) != s.sums[name] {
		err = fmt.Errorf("%s arrived with %d bytes, changed", name, len(body))
	}
	s.bytes.Add(uint64(len(body)))
	return err
}

// payload is of any size up to n bytes, mostly small ones.
func payload(r *rand.Rand, n int) []byte {
	text, _ := random(r.Uint64(), r.IntN(1+r.IntN(n)))
	return []byte(text)
}

func (s *soaker) upload(r *rand.Rand) error {
	data := payload(r, 4<<20)
	out, err := s.run(strings.NewReader(string(data)), "socat", "-t10", "-", "TCP4:203.0.113.1:9002")
	if err == nil && !strings.HasPrefix(string(out), hashed(data)) {
		err = fmt.Errorf("%d bytes arrived changed: %q", len(data), out)
	}
	s.bytes.Add(uint64(len(data)))
	return err
}

func (s *soaker) echo(r *rand.Rand) error {
	data := payload(r, 1<<20)
	out, err := s.run(strings.NewReader(string(data)), "socat", "-t10", "-", "TCP4:203.0.113.1:9001")
	if err == nil && hashed(out) != hashed(data) {
		err = fmt.Errorf("%d bytes came back as %d, changed", len(data), len(out))
	}
	s.bytes.Add(uint64(2 * len(data)))
	return err
}

// datagrams sends a few from one port, one at a time, in up to six fragments: larger ones of all workers together are more than
// the receive buffer of the echo server takes. The answers stand behind a greeting.
func (s *soaker) datagrams(r *rand.Rand) error {
	conn, err := s.client.Dial(context.Background(), "udp", "203.0.113.1:9003")
	if err != nil {
		return err
	}
	defer conn.Close()
	answer := make([]byte, 65536)
	for range 1 + r.IntN(20) {
		data := payload(r, 9_000)
		_ = conn.SetDeadline(time.Now().Add(patience))
		if _, err := conn.Write(data); err != nil {
			return err
		}
		n, err := conn.Read(answer)
		if err != nil {
			return fmt.Errorf("a datagram of %d bytes: %w", len(data), err)
		}
		if n < len(data) || hashed(answer[n-len(data):n]) != hashed(data) {
			return fmt.Errorf("a datagram of %d bytes came back as %d, changed", len(data), n)
		}
		s.bytes.Add(uint64(2 * len(data)))
	}
	return nil
}

// goAway leaves a download in the middle, by a FIN or a reset.
func (s *soaker) goAway(r *rand.Rand) error {
	conn, err := s.client.Dial(context.Background(), "tcp", "203.0.113.1:80")
	if err != nil {
		return err
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(conn, "GET /big HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		return err
	}
	if _, err := io.CopyN(io.Discard, conn, int64(r.IntN(1<<19))); err != nil {
		return err
	}
	if r.IntN(2) == 0 {
		return conn.(*net.TCPConn).SetLinger(0)
	}
	return nil
}
