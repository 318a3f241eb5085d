package relay

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/fairlead-net/fairlead/forward"
	"github.com/fairlead-net/fairlead/node/host"
	"github.com/fairlead-net/fairlead/wake"
)

var testMAC = forward.MAC{2, 0, 0x5e, 0, 0x53, 0x80}

// bed is this host, where what the forwards lead to sleeps.
type bed struct {
	*host.Node
	real  string // where the targets are once they are awake
	awake string // one that never sleeps, or ""

	mu     sync.Mutex
	answer error // to who dials; nil: awake
	dials  int
	magic  []wake.Target
}

func newBed(t *testing.T) (*bed, *Relay) {
	t.Helper()
	b := &bed{Node: host.New(), real: serve(t, "tcp", "127.0.0.1:0", echo).String(), answer: syscall.EHOSTUNREACH}
	r := startRelayOn(t, b)
	r.magic = func(_ context.Context, to wake.Target) ([]wake.Copy, error) {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.magic = append(b.magic, to)
		return nil, nil
	}
	return b, r
}

func (b *bed) Dial(ctx context.Context, network, addr string) (net.Conn, error) {
	b.mu.Lock()
	b.dials++
	answer := b.answer
	b.mu.Unlock()
	if answer != nil && addr != b.awake {
		return nil, &net.OpError{Op: "dial", Net: network, Err: os.NewSyscallError("connect", answer)}
	}
	return b.Node.Dial(ctx, network, b.real)
}

func (b *bed) now(answer error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.answer = answer
}

func (b *bed) counts() (dials, magic int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.dials, len(b.magic)
}

func sleepy(t *testing.T, port string) *forward.Forward {
	t.Helper()
	f := fwd(t, "x", port, "192.0.2.20:445")
	f.Wake.MACs = []forward.MAC{testMAC}
	return f
}

func waking(r *Relay, clients string) func() bool {
	note := regexp.MustCompile(`^waking 192\.0\.2\.20 \(02:00:5e:00:53:80\) for ` + clients + `, since \d+ s$`)
	return func() bool { return note.MatchString(r.Stats()["x"].Note) }
}

func TestClientsWaitForTheTarget(t *testing.T) {
	b, r := newBed(t)
	port := freePort(t)
	f := sleepy(t, port)
	f.MaxConnections = 2
	apply(t, r, f)
	addr := "127.0.0.1:" + port
	first := dial(t, "tcp", addr)
	_, _ = io.WriteString(first, "early")
	eventually(t, "the note", waking(r, "1 client"))
	second := dial(t, "tcp", addr)
	eventually(t, "the note", waking(r, "2 clients"))
	turnedAwayAt(t, "127.0.0.1", addr) // who waits counts
	eventually(t, "magic packets", func() bool { _, n := b.counts(); return n > 0 })
	b.now(syscall.ECONNREFUSED) // it is up, and its program not yet
	before, _ := b.counts()
	eventually(t, "further tries", func() bool { n, _ := b.counts(); return n > before+2 })
	b.now(nil)
	got := make([]byte, 5)
	if _, err := io.ReadFull(first, got); err != nil || string(got) != "early" {
		t.Errorf("got %q, %v", got, err)
	}
	ask(t, second, "hello")
	eventually(t, "the note to go", func() bool { return r.Stats()["x"].Note == "" })
	if to := b.magic[0]; to.MAC != testMAC || len(to.Addrs) != 1 || to.Addrs[0].String() != "192.0.2.20" {
		t.Errorf("a magic packet went to %+v", to)
	}
	if s := r.Stats()["x"]; s.Refused != 1 || s.Total != 2 || s.Open != 2 {
		t.Errorf("stats are %+v", s)
	}
}

func TestAwakeTargetIsNotWoken(t *testing.T) {
	b, r := newBed(t)
	port := freePort(t)
	apply(t, r, sleepy(t, port))
	b.now(nil)
	ask(t, dial(t, "tcp", "127.0.0.1:"+port), "hello")
	b.now(syscall.ECONNREFUSED)
	turnedAwayAt(t, "127.0.0.1", "127.0.0.1:"+port)
	eventually(t, "the note", func() bool { return strings.Contains(r.Stats()["x"].Note, "connection refused") })
	if _, n := b.counts(); n != 0 {
		t.Errorf("%d magic packets were sent to a host that is awake", n)
	}
}

// A failover target that is awake spares the one that sleeps.
func TestAnotherTargetIsAwake(t *testing.T) {
	b, r := newBed(t)
	port := freePort(t)
	f := fwd(t, "x", port, "192.0.2.20:445", "192.0.2.21:445")
	f.Wake.MACs = []forward.MAC{testMAC}
	b.awake = "192.0.2.21:445"
	apply(t, r, f)
	ask(t, dial(t, "tcp", "127.0.0.1:"+port), "hello")
	if _, n := b.counts(); n != 0 {
		t.Errorf("%d magic packets were sent", n)
	}
}

func TestTargetThatDoesNotWake(t *testing.T) {
	b, r := newBed(t)
	port := freePort(t)
	f := sleepy(t, port)
	f.Wake.Timeout = time.Second
	apply(t, r, f)
	turnedAwayAt(t, "127.0.0.1", "127.0.0.1:"+port)
	refusedBecomes(t, r, "x", 1)
	want := "target 192.0.2.20:445: magic packets were sent, and it was not up within 1s: no route to host"
	eventually(t, "the note", func() bool { return r.Stats()["x"].Note == want })
	if _, n := b.counts(); n == 0 {
		t.Error("no magic packets were sent")
	}
}

func TestMagicThatCannotBeSent(t *testing.T) {
	_, r := newBed(t)
	port := freePort(t)
	r.magic = func(context.Context, wake.Target) ([]wake.Copy, error) {
		return nil, errors.New("no interface\nat all")
	}
	apply(t, r, sleepy(t, port))
	dial(t, "tcp", "127.0.0.1:"+port)
	eventually(t, "the note", func() bool { return strings.HasSuffix(r.Stats()["x"].Note, " s; no interface; at all") })
}
