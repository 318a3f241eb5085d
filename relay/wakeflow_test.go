package relay

import (
	"syscall"
	"testing"
	"time"

	"github.com/fairlead-net/fairlead/forward"
)

// A bareFlow is a session without sockets.
type bareFlow struct{ session }

func (*bareFlow) bytes() (in, out uint64) { return 0, 0 }
func (*bareFlow) where() string           { return "" }
func (*bareFlow) kill()                   {}

// roused begins a UDP flow to the first target of f, as flow.go does.
func roused(t *testing.T, r *Relay, f *forward.Forward) *rousing {
	t.Helper()
	s := &bareFlow{}
	s.network = forward.UDP
	s.id = r.nextID.Add(1)
	if err := r.tasks[f.Name].enter(s, f); err != nil {
		t.Fatal(err)
	}
	x := r.rouse(t.Context(), &s.session, f.To[0])
	t.Cleanup(x.end)
	return x
}

func TestFlowWakesItsTarget(t *testing.T) {
	b, r := newBed(t)
	f := sleepy(t, "udp/"+freePort(t))
	apply(t, r, f)
	asleep := syscall.EHOSTUNREACH
	x := roused(t, r, f)
	eventually(t, "magic packets", func() bool { _, n := b.counts(); return n > 0 })
	if !waking(r, "1 client")() {
		t.Errorf("the note is %q", r.Stats()["x"].Note)
	}
	for i := range 2 * pendingMax {
		x.keep([]byte{byte(i)})
	}
	now := r.now()
	for i := range 3 {
		again, wait, ok := x.lost(t.Context(), asleep, now)
		if !ok || len(again) != pendingMax || again[1][0] != 1 || wait != flowSettle+time.Duration(i)*flowRetry {
			t.Errorf("try %d: %d datagrams after %s, %v", i, len(again), wait, ok)
		}
	}
	if _, _, ok := x.lost(t.Context(), syscall.ECONNREFUSED, now); ok {
		t.Error("a target that refuses is awake, and the flow goes on")
	}
	x.answered(now)
	if note := r.Stats()["x"].Note; note != "" {
		t.Errorf("it answered, and the note is %q", note)
	}
	if again, _, ok := x.lost(t.Context(), asleep, now); ok || len(again) > 0 {
		t.Error("it answered, and what was held is sent again")
	}

	lately := roused(t, r, f)
	if note := r.Stats()["x"].Note; note != "" {
		t.Errorf("it answered lately, and the note is %q", note)
	}
	lately.keep([]byte("kept"))
	if again, wait, ok := lately.lost(t.Context(), asleep, r.now()); !ok || len(again) != 1 || wait != flowSettle || !waking(r, "1 client")() {
		t.Errorf("it went to sleep meanwhile: %q after %s, %v; the note is %q", again, wait, ok, r.Stats()["x"].Note)
	}
	if _, _, ok := lately.lost(t.Context(), asleep, lately.until); ok {
		t.Error("wake_timeout is over, and the flow goes on")
	}
	lately.end()
	lately.heard.Store(r.now() - int64(awakeFor) - 1)
	roused(t, r, f)
	if !waking(r, "1 client")() {
		t.Error("it was not heard of for long, and is not woken")
	}
}

func TestFlowWithoutWake(t *testing.T) {
	_, r := newBed(t)
	f := fwd(t, "x", "udp/"+freePort(t), "192.0.2.20:445")
	apply(t, r, f)
	x := roused(t, r, f)
	x.keep([]byte("x"))
	x.answered(1)
	if _, _, ok := x.lost(t.Context(), syscall.EHOSTUNREACH, 1); ok || x != nil {
		t.Error("a forward without wake wakes")
	}
}
