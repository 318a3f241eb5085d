package relay

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fairlead-net/fairlead/forward"
	"github.com/fairlead-net/fairlead/relay/health"
)

// pickOrder is a task without a relay, for what depends on nothing but what is known of targets.
func pickOrder(t *testing.T, balance forward.Balance, n int) (*task, func() string) {
	var to []string
	for i := range n {
		to = append(to, fmt.Sprintf("192.0.2.%d:1", i+1))
	}
	f := fwd(t, "x", "80", to...)
	f.Balance = balance
	task := newTask(f)
	return task, func() string {
		var s []string
		for _, g := range task.order(task.f, netip.MustParseAddr("198.51.100.7"), forward.TCP) {
			s = append(s, strings.TrimSuffix(strings.TrimPrefix(g.String(), "192.0.2."), ":1"))
		}
		return strings.Join(s, "")
	}
}

func TestOrderOfTheUnwell(t *testing.T) {
	task, order := pickOrder(t, forward.BalanceFailover, 4)
	now := time.Now()
	for _, step := range []struct {
		do   func()
		want string
	}{
		{func() {}, "1234"},
		{func() { task.targets[0].record.Failed(now, errSlow) }, "2341"},
		{func() { task.targets[1].record.Checked(now, errSlow) }, "341"},
		{func() { task.targets[2].draining = true }, "41"},
		{func() { task.targets[3].record.Checked(now, errSlow) }, "1"},
		{func() {
			for range health.Fall {
				task.targets[0].record.Checked(now, errSlow)
			}
		}, "124"},
		{func() {
			task.targets[0].draining, task.targets[1].draining, task.targets[3].draining = true, true, true
		}, ""},
	} {
		if step.do(); order() != step.want {
			t.Errorf("the order is %q, want %q", order(), step.want)
		}
	}
}

// TestRoundRobinPassesOver wants those that are left to have equal shares, where plain turns give one of them two.
func TestRoundRobinPassesOver(t *testing.T) {
	task, order := pickOrder(t, forward.BalanceRoundRobin, 4)
	task.targets[1].record.Failed(time.Now(), errSlow)
	share := map[byte]int{}
	for range 300 {
		o := order()
		share[o[0]]++
		if o[3] != '2' {
			t.Fatalf("the one that fails is not last: %s", o)
		}
	}
	if share['1'] != 100 || share['3'] != 100 || share['4'] != 100 {
		t.Errorf("shares are %v", share)
	}
}

// TestSlowStart counts who gets the sessions while a target's share grows.
func TestSlowStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		task, order := pickOrder(t, forward.BalanceRoundRobin, 2)
		task.f.SlowStart = 100 * time.Second
		task.targets[1].record.Joined(time.Now())
		for tenth := range 12 {
			got := 0
			for range 1000 {
				time.Sleep(10 * time.Millisecond)
				if order()[0] == '2' {
					got++
				}
			}
			weight := min(1, (float64(tenth)+0.5)/10)
			if want := 1000 * weight / (1 + weight); float64(got) < want-15 || float64(got) > want+15 {
				t.Errorf("in tenth %d of slow start it gets %d of 1000 sessions, want about %.0f", tenth, got, want)
			}
		}
		task, order = pickOrder(t, forward.BalanceLeast, 2)
		task.f.SlowStart = 100 * time.Second
		task.targets[0].open = 9 // and one more would be 10
		task.targets[1].record.Joined(time.Now())
		time.Sleep(9 * time.Second)
		if got := order(); got != "12" {
			t.Errorf("least: with a share of 9 %% the order is %s", got)
		}
		time.Sleep(2 * time.Second)
		if got := order(); got != "21" {
			t.Errorf("least: with a share of 11 %% the order is %s", got)
		}
	})
}

// TestSourceMovesFew wants the clients of a dead target to go elsewhere, and no others.
func TestSourceMovesFew(t *testing.T) {
	task, _ := pickOrder(t, forward.BalanceSource, 4)
	first := func(i int) forward.Target {
		return task.order(task.f, netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), forward.TCP)[0]
	}
	const clients = 1000
	before := make([]forward.Target, clients)
	for i := range before {
		before[i] = first(i)
	}
	task.targets[2].record.Failed(time.Now(), errSlow)
	elsewhere := map[forward.Target]int{}
	for i := range before {
		switch is := first(i); {
		case before[i] == task.f.To[2]:
			elsewhere[is]++
		case is != before[i]:
			t.Fatalf("client %d moved from %s to %s", i, before[i], is)
		}
	}
	if len(elsewhere) != 3 || elsewhere[task.f.To[2]] != 0 {
		t.Errorf("clients of the dead target went to %v", elsewhere)
	}
}

// TestOrderAllocates keeps what the engine's loops call free of garbage where the order is the one that is written.
func TestOrderAllocates(t *testing.T) {
	for _, n := range []int{1, 3} {
		task, _ := pickOrder(t, forward.BalanceFailover, n)
		client := netip.MustParseAddr("198.51.100.7")
		if got := testing.AllocsPerRun(100, func() { task.order(task.f, client, forward.TCP) }); got != 0 {
			t.Errorf("the order of %d targets takes %v allocations", n, got)
		}
	}
}
