package table

import (
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fairlead-net/fairlead/config"
	"github.com/fairlead-net/fairlead/forward"
	"github.com/fairlead-net/fairlead/kernel"
)

func TestOneFailingForwardStopsNoOther(t *testing.T) {
	inHouse(t, func(h *house) {
		h.relay.refuse("b", errBusy)
		h.kernel.refuse("k", errors.New("no such chain"))
		h.start()
		h.replace(viaRelay(h.t, "a", forward.OriginFile, "1"), viaRelay(h.t, "b", forward.OriginFile, "2"),
			viaKernel(h.t, "k", forward.OriginFile, "3"), viaKernel(h.t, "l", forward.OriginFile, "4"))
		h.wantLook("a file up, b file failed (address already in use), k file failed (no such chain), l file up")
		if s := h.put(viaRelay(h.t, "c", forward.OriginAPI, "5")); s.State != forward.StateUp {
			h.t.Errorf("beside a failing one: %+v", s)
		}
		h.kernel.refuse("a", errors.New("no place")) // a is the relay's; the kernel's trouble is not its own
		h.kernel.refuse("k", nil)
		h.relay.refuse("b", nil)
		elapse(lastRetry)
		h.wantLook("a file up, b file up, c api up, k file up, l file up")
	})
}

// TestHelperThatIsMissing has the relay read what this kernel does not, where it can.
func TestHelperThatIsMissing(t *testing.T) {
	inHouse(t, func(h *house) {
		h.kernel.refuse("a", &kernel.HelperError{Helper: forward.HelperFTP, Network: forward.TCP, Err: errors.New("no such file")})
		h.kernel.refuse("b", &kernel.HelperError{Helper: forward.HelperSIP, Network: forward.UDP, Err: errors.New("no such file")})
		h.start()
		h.replace(spec(h.t, "a", forward.OriginFile, config.Spec{Listen: "21", To: config.Strings{"192.168.1.10"}, Helper: "ftp"}),
			spec(h.t, "b", forward.OriginFile, config.Spec{Listen: "udp/5060", To: config.Strings{"192.168.1.10"}, Helper: "sip"}),
			spec(h.t, "c", forward.OriginFile, config.Spec{Listen: "2121", To: config.Strings{"192.168.1.10"}, Helper: "ftp", Carry: "kernel"}))
		elapse(2 * firstRetry)
		h.wantLook("a file up, b file failed (this kernel has no helper for sip over udp; load the module nf_conntrack_sip: no such file), " +
			"c file failed (carry = \"kernel\" needs the kernel to carry it, but this kernel has no helper for ftp)")
		h.wantCarried("a b", "a") // b is tried again, and a keeps its place
	})
}

func TestBackoff(t *testing.T) {
	inHouse(t, func(h *house) {
		h.relay.refuse("b", errBusy)
		h.start()
		h.put(viaRelay(h.t, "b", forward.OriginAPI, "2"))
		begin := time.Now()
		var tries []string
		count := func([]*forward.Forward) { tries = append(tries, time.Since(begin).String()) }
		h.relay.watch(count)
		elapse(3*time.Minute + time.Second)
		if got := strings.Join(tries, " "); got != "1s 3s 7s 15s 31s 1m3s 2m3s 3m3s" && got != "1s 3s 7s 15s 31s 1m3s 2m3s" {
			h.t.Errorf("tried after %s", got)
		}
		h.relay.refuse("b", nil)
		elapse(lastRetry)
		h.wantLook("b api up")
		h.relay.refuse("b", errBusy) // a new trouble starts at 1 s again
		h.put(viaRelay(h.t, "b", forward.OriginAPI, "3"))
		begin, tries = time.Now(), nil
		h.relay.watch(count)
		elapse(4 * time.Second)
		if got := strings.Join(tries, " "); got != "1s 3s" {
			h.t.Errorf("the next time tried after %s", got)
		}
	})
}

func TestFactsChange(t *testing.T) {
	inHouse(t, func(h *house) {
		keep := spec(h.t, "keep", forward.OriginFile, config.Spec{Listen: "203.0.113.5:9", To: config.Strings{"192.168.1.9"}, Source: "keep"})
		h.setFacts(kernel.Facts{Unusable: "no nf_tables"})
		h.replace(viaKernel(h.t, "web", forward.OriginFile, "80"), keep, viaRelay(h.t, "app", forward.OriginFile, "81"))
		h.start()
		h.wantCarried("", "app web")
		h.wantLook(`app file up, keep file failed (source = "keep" is impossible here: no nf_tables), web file up`)
		if s := h.Snapshot()[2]; s.Why != "no nf_tables" || s.Carried != forward.CarryRelay {
			h.t.Errorf("web: %+v", s)
		}
		app := h.relay.get("app")

		// web leaves the relay only once the kernel has it.
		var order []string
		h.relay.watch(func(want []*forward.Forward) { order = append(order, "relay:"+names(want)) })
		h.kernel.watch(func(want []*forward.Forward) { order = append(order, "kernel:"+names(want)) })
		h.setFacts(router)
		elapse(lookEvery)
		if got := strings.Join(order, ", "); got != "relay:app web, kernel:app keep web, relay:app" {
			h.t.Errorf("moved by %s", got)
		}
		h.wantCarried("app keep web", "app")
		h.wantLook("app file up, keep file up, web file up")
		if h.relay.get("app") != app {
			h.t.Error("a forward whose plan did not change has a new pointer")
		}

		// And back: the relay listens before the kernel lets go.
		order = nil
		h.setFacts(kernel.Facts{})
		elapse(lookEvery)
		if got := strings.Join(order, ", "); got != "relay:app keep web, kernel:" {
			h.t.Errorf("moved back by %s", got)
		}
		order = nil
		elapse(10 * lookEvery)
		if len(order) != 0 {
			h.t.Errorf("with nothing changed, the carriers are called: %v", order)
		}
	})
}

// TestBlindLook finds nothing out about the host, for want of descriptors: a forward stays where it is.
func TestBlindLook(t *testing.T) {
	inHouse(t, func(h *house) {
		h.start()
		h.replace(viaKernel(h.t, "web", forward.OriginFile, "80"))
		web := h.kernel.get("web")
		h.mu.Lock()
		h.facts, h.blind = kernel.Facts{}, errors.New("too many open files")
		h.mu.Unlock()
		elapse(10 * lookEvery)
		h.wantLook("web file up")
		if h.kernel.get("web") != web {
			h.t.Error("the forward moved")
		}
	})
}

// TestShutKeepsItsPlace closes a forward by its schedule: the kernel keeps its place free, and nobody carries it.
func TestShutKeepsItsPlace(t *testing.T) {
	inHouse(t, func(h *house) {
		h.start()
		closes := viaKernel(h.t, "closes", forward.OriginFile, "80")
		closes.Expires = time.Now().Add(time.Minute)
		h.replace(closes, viaKernel(h.t, "open", forward.OriginFile, "81"))
		elapse(2 * time.Minute)
		h.wantLook("closes file off (expired), open file up")
		if hold := h.kernel.get("closes"); hold == nil || hold.Carry != forward.CarryRelay || !hold.Disabled {
			h.t.Errorf("the kernel has %+v", hold)
		}
		if f := h.relay.get("closes"); f != nil {
			h.t.Errorf("the relay has %+v", f)
		}
	})
}

func names(list []*forward.Forward) string {
	var out []string
	for _, f := range list {
		out = append(out, f.Name)
	}
	return strings.Join(out, " ")
}

func TestChangesDuringACycleAreCarriedTogether(t *testing.T) {
	inHouse(t, func(h *house) {
		h.start()
		free := make(chan struct{})
		h.relay.watch(func([]*forward.Forward) { <-free })
		done := make(chan Status)
		for _, f := range []*forward.Forward{viaRelay(h.t, "a", forward.OriginAPI, "1"), viaRelay(h.t, "b", forward.OriginAPI, "2"), viaRelay(h.t, "c", forward.OriginAPI, "3")} {
			go func() {
				s, _ := h.Put(h.t.Context(), f)
				done <- s
			}()
			synctest.Wait() // the first is with the relay, the others wait
		}
		if got := len(h.Snapshot()); got != 3 { // looking is free meanwhile
			h.t.Errorf("%d forwards in the table", got)
		}
		close(free)
		for range 3 {
			if s := <-done; s.State != forward.StateUp {
				h.t.Errorf("%+v", s)
			}
		}
		if got := h.relay.count(); got != 3 {
			h.t.Errorf("the relay was called %d times; want one for the start, one for a, one for b and c", got)
		}
	})
}

func TestStopWhileACarrierIsAtWork(t *testing.T) {
	inHouse(t, func(h *house) {
		h.start()
		free := make(chan struct{})
		h.relay.watch(func([]*forward.Forward) { <-free })
		failed := make(chan error)
		go func() {
			_, err := h.Put(h.t.Context(), viaRelay(h.t, "a", forward.OriginAPI, "1"))
			failed <- err
		}()
		synctest.Wait()
		go func() {
			synctest.Wait()
			close(free)
		}()
		h.stop()
		if err := <-failed; !errors.Is(err, ErrStopped) {
			h.t.Errorf("Put: %v", err)
		}
	})
}

// A system is a carrier with something in the system.
type system struct {
	*carrier
	lost    atomic.Bool
	cleared int
}

func (s *system) Lost() bool { return s.lost.Swap(false) }

func (s *system) Clear() error {
	s.cleared++
	return errBusy
}

func TestWhatACarrierLostIsGivenAgain(t *testing.T) {
	inHouse(t, func(h *house) {
		s := &system{carrier: h.kernel}
		h.Table.kernel = s
		h.replace(viaKernel(h.t, "web", forward.OriginFile, "80"))
		h.start()
		before := h.kernel.count()
		elapse(lookEvery)
		if got := h.kernel.count(); got != before {
			h.t.Errorf("called %d times for nothing", got-before)
		}
		s.lost.Store(true)
		elapse(2 * lookEvery)
		if got := h.kernel.count(); got != before+1 {
			h.t.Errorf("called %d times after a loss", got-before)
		}
		if err := h.Down(h.t.Context()); !errors.Is(err, errBusy) || s.cleared != 1 {
			h.t.Errorf("Down: %v, cleared %d times", err, s.cleared)
		}
	})
}

// A carrier may come to refuse what it had taken, when its Apply is called for another.
func TestARefusalMayComeLater(t *testing.T) {
	inHouse(t, func(h *house) {
		h.start()
		h.put(viaRelay(h.t, "a", forward.OriginAPI, "1"))
		h.relay.refuse("a", errBusy)
		h.put(viaRelay(h.t, "b", forward.OriginAPI, "2"))
		h.wantLook("a api failed (address already in use), b api up")
		h.relay.refuse("a", nil)
		elapse(2 * time.Second)
		h.wantLook("a api up, b api up")
	})
}
