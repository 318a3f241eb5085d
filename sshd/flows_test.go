package sshd

import (
	"strings"
	"testing"
	"time"
)

func TestTooManyStuckFlows(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	heavy, light := &client{}, &client{}
	var nothing load = closing{}
	flows := make([]*flow, 0, 12)
	add := func(c *client, name string, ago time.Duration) {
		f := &flow{client: c}
		f.load.Store(&nothing)
		f.Target = name
		if ago > 0 {
			f.waiting.Store(now.Add(-ago).UnixNano())
		}
		flows = append(flows, f)
	}
	for i := range 5 {
		add(heavy, string(rune('a'+i)), time.Duration(20+i)*time.Second)
	}
	add(heavy, "new", time.Second)
	add(heavy, "moving", 0)
	add(light, "light", time.Hour)
	var names []string
	for _, f := range tooMany(flows, now, 4*plainWindow) {
		names = append(names, f.Target)
	}
	if got := strings.Join(names, " "); got != "e d" {
		t.Errorf("ended are %q, want those of the heavy client that have waited longest", got)
	}
	if n := len(tooMany(flows, now, 6*plainWindow)); n != 0 {
		t.Errorf("%d are ended, and there is room", n)
	}
}

func TestThrottle(t *testing.T) {
	var th throttle
	said := 0
	for range 100 {
		if _, ok := th.may(); ok {
			said++
		}
	}
	if said != 1 {
		t.Errorf("%d lines", said)
	}
	th.next = time.Time{}
	if left, ok := th.may(); !ok || left != 99 {
		t.Errorf("%v, %v", left, ok)
	}
}
