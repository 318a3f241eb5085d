package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/fairlead-net/fairlead/internal/netlab"
)

const (
	// growth is how much larger a daemon may be after an abuse, which is what Go's collector has not given back yet. What
	// is abused holds far more if it is kept.
	growth = 24 << 20

	// pipesKept is how many descriptors of a stock of pipes a loop of the relay keeps for the next bulk stream; there is a
	// loop for each processor.
	pipesKept = 8
)

// A holding is what a process has of the system.
type holding struct {
	sockets, others int // descriptors
	resident        int // bytes
}

func (d *daemon) holds() holding {
	d.t.Helper()
	var h holding
	dir := fmt.Sprintf("/proc/%d/fd", d.proc.Pid())
	entries, err := os.ReadDir(dir)
	if err != nil {
		d.t.Fatal(err)
	}
	for _, e := range entries {
		switch to, err := os.Readlink(filepath.Join(dir, e.Name())); {
		case err != nil: // closed in between
		case strings.HasPrefix(to, "socket:"):
			h.sockets++
		default:
			h.others++
		}
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", d.proc.Pid()))
	if err != nil {
		d.t.Fatal(err)
	}
	if m := regexp.MustCompile(`VmRSS:\s+(\d+) kB`).FindSubmatch(status); m != nil {
		kB, _ := strconv.Atoi(string(m[1]))
		h.resident = kB << 10
	}
	return h
}

// letsGo waits until the daemon has no session, and holds no more than before.
func (d *daemon) letsGo(before holding) {
	d.t.Helper()
	var now holding
	var busy []string
	settled := false
	defer func() {
		if !settled {
			d.t.Logf("before it held %+v, now %+v; busy: %v", before, now, busy)
		}
	}()
	d.wait("sessions and their descriptors are gone", func() bool {
		busy = nil
		for name, f := range d.status() {
			if listed := len(d.sessions(name)); f.Connections.Open != 0 || listed != 0 {
				busy = append(busy, fmt.Sprintf("%s has %d open and lists %d", name, f.Connections.Open, listed))
			}
		}
		now = d.holds()
		return len(busy) == 0 && now.sockets <= before.sockets && now.others <= before.others+pipesKept*runtime.NumCPU()
	})
	settled = true
	if now.resident > before.resident+growth {
		d.t.Errorf("the daemon has %d kB, after %d kB", now.resident>>10, before.resident>>10)
	}
	d.t.Logf("held before: %+v, after: %+v", before, now)
}

// goroutines ends the daemon by SIGQUIT, at which Go writes down what each goroutine does, and counts those that are not the
// runtime's own.
func (d *daemon) goroutines() int {
	d.t.Helper()
	d.proc.Signal(syscall.SIGQUIT)
	if err := d.proc.Wait(d.t.Context()); err == nil {
		d.t.Fatal("the daemon ended well at SIGQUIT")
	}
	const creator = "\ncreated by "
	n := strings.Count(d.proc.Output(), creator) - strings.Count(d.proc.Output(), creator+"runtime.")
	if n <= 0 {
		d.t.Fatalf("SIGQUIT wrote no goroutines:\n%s", d.proc.Output())
	}
	return n
}

// endsAsNew ends the daemon, which must have no more goroutines than one with the same file that nobody has called. After another
// failure, which all that Go writes would hide, it does nothing.
func (d *daemon) endsAsNew() {
	d.t.Helper()
	if d.t.Failed() {
		return
	}
	used := d.goroutines()
	d.start()
	const atWork = 2 // on the answer to the last command, or cleaning up
	if fresh := d.goroutines(); used > fresh+atWork {
		d.t.Errorf("%d goroutines, a fresh daemon has %d", used, fresh)
	} else {
		d.t.Logf("%d goroutines, a fresh daemon has %d", used, fresh)
	}
}

// keepTalking has every talk say word after word, each of which must come back, until stop is called, which says how many
// that were. A talk that lost a word is over.
func keepTalking(t testing.TB, talks ...*talk) (stop func() int) {
	var said int
	var wg sync.WaitGroup
	done := make(chan struct{})
	wg.Go(func() {
		alive := slices.Clone(talks)
		for len(alive) > 0 {
			select {
			case <-done:
				return
			default:
			}
			alive = slices.DeleteFunc(alive, func(k *talk) bool {
				said++
				err := k.sayWithin(30 * time.Second)
				if err != nil {
					t.Errorf("%s lost word %d: %v", k.name, k.n, err)
				}
				return err != nil
			})
		}
	})
	stop = sync.OnceValue(func() int { close(done); wg.Wait(); return said })
	t.Cleanup(func() { stop() })
	return stop
}

// callers open one session after the other, until they are told to stop.
type callers struct {
	stop  func() // returns when no call is under way
	calls atomic.Int64

	mu      sync.Mutex
	slowest time.Duration
}

// keepCalling has n callers, who rest for pause after each call. None of the calls may fail.
func keepCalling(t testing.TB, n int, pause time.Duration, from *netlab.Node, network, addr string) *callers {
	var wg sync.WaitGroup
	ctx, cancel := context.WithCancel(t.Context())
	c := &callers{stop: func() { cancel(); wg.Wait() }}
	t.Cleanup(c.stop)
	for range n {
		wg.Go(func() {
			for ctx.Err() == nil {
				if !c.call(t, from, network, addr) {
					return
				}
				time.Sleep(pause)
			}
		})
	}
	return c
}

func (c *callers) call(t testing.TB, from *netlab.Node, network, addr string) bool {
	began := time.Now()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	_, err := from.Call(ctx, network, addr)
	took := time.Since(began)
	if err != nil {
		if t.Context().Err() == nil { // else the test has ended
			t.Errorf("call %d of %s/%s, after %v: %v", c.calls.Load(), network, addr, took, err)
		}
		return false
	}
	c.mu.Lock()
	c.slowest = max(c.slowest, took)
	c.mu.Unlock()
	c.calls.Add(1)
	return true
}
