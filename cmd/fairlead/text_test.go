package main

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/fairlead-net/fairlead/api"
	"github.com/fairlead-net/fairlead/forward"
	"github.com/fairlead-net/fairlead/table"
)

func TestHumanBytes(t *testing.T) {
	for n, want := range map[uint64]string{
		0: "0 B", 999: "999 B", 1000: "1.0 kB", 1049: "1.0 kB", 9949: "9.9 kB", 9951: "10 kB", 999499: "999 kB", 999500: "1.0 MB",
		123456789: "123 MB", 1<<64 - 1: "18 EB",
	} {
		if got := humanBytes(n); got != want {
			t.Errorf("%d: %q, want %q", n, got, want)
		}
	}
}

func TestHumanAge(t *testing.T) {
	now := time.Now()
	for d, want := range map[time.Duration]string{
		-time.Second: "0s", 59 * time.Second: "59s", 61 * time.Second: "1m1s", 90 * time.Minute: "1h30m", 50 * time.Hour: "2d2h",
	} {
		then := now.Add(-d)
		if got := humanAge(&then, now); got != want {
			t.Errorf("%s: %q, want %q", d, got, want)
		}
	}
	if got := humanAge(nil, now); got != "?" {
		t.Errorf("not known: %q", got)
	}
}

func TestGrid(t *testing.T) {
	g := newGrid("NAME", "TO", "WHY")
	g.row("é", "1", "")
	g.note("note")
	g.row("long-name", "22", "because")
	var out strings.Builder
	if err := g.print(&out); err != nil {
		t.Fatal(err)
	}
	want := "NAME       TO  WHY\né          1\n  note\nlong-name  22  because\n"
	if out.String() != want {
		t.Errorf("got\n%s\nwant\n%s", out.String(), want)
	}
}

// What a peer or a resolver says must not move the cursor.
func TestPlain(t *testing.T) {
	if got := plain("a\x1b[2Jb\u009bc\nü\u202ed\u2028"); got != "a?[2Jb?c?ü?d?" {
		t.Errorf("%q", got)
	}
}

func TestStatusOfTargets(t *testing.T) {
	f := fwdWithTargets()
	for _, tt := range []struct {
		names []string
		want  []string
	}{
		{nil, nil},
		{[]string{"web"}, []string{
			"  target 192.0.2.1:80: up, 2 open",
			"  target 192.0.2.2:80: down, 0 open, since ", "connection refused",
			"  target 192.0.2.3:80: draining, 1 open",
		}},
	} {
		var out bytes.Buffer
		if err := printStatus(&out, []api.Forward{f}, tt.names); err != nil {
			t.Fatal(err)
		}
		for _, want := range tt.want {
			if !strings.Contains(out.String(), want) {
				t.Errorf("status of %v lacks %q:\n%s", tt.names, want, &out)
			}
		}
		if tt.names == nil && strings.Contains(out.String(), "target ") {
			t.Errorf("the status of all names targets:\n%s", &out)
		}
	}
}

// fwdWithTargets is a forward as the daemon shows it, with a target of each kind.
func fwdWithTargets() api.Forward {
	return api.ForwardOf(table.Status{
		Forward: &forward.Forward{Name: "web"}, Carried: forward.CarryRelay, State: forward.StateUp,
		Stats: forward.Stats{Targets: []forward.TargetStats{
			{Target: "192.0.2.1:80", State: "up", Open: 2},
			{Target: "192.0.2.2:80", State: "down", Since: time.Unix(1e9, 0), Why: "connection refused"},
			{Target: "192.0.2.3:80", State: "up", Open: 1, Draining: true, Since: time.Unix(1e9, 0)},
		}},
	})
}

func TestScreen(t *testing.T) {
	var out, log bytes.Buffer
	s := newScreen(&out, &log)
	if s.live {
		t.Error("a buffer is a terminal")
	}
	s.print("one")
	s.update("live")
	s.Write([]byte("logged\n"))
	if out.String() != "one\n" || log.String() != "logged\n" {
		t.Errorf("piped: %q, %q", &out, &log)
	}
	out.Reset()
	s = newScreen(&out, &out)
	s.live = true
	s.print("one")
	s.update("live")
	s.Write([]byte("logged\n"))
	s.clear()
	if want := "one\nlive" + clearLine + "logged\nlive" + clearLine; out.String() != want {
		t.Errorf("on a terminal: %q, want %q", &out, want)
	}
}

func TestLiveLine(t *testing.T) {
	up := table.Status{State: forward.StateUp, Stats: forward.Stats{Open: 3, Total: 12, BytesIn: 5000, BytesOut: 4_000_000, Refused: 1, Note: "slow"}}
	for _, tt := range []struct {
		name   string
		now    table.Status
		before forward.Stats
		d      time.Duration
		want   string
	}{
		{"rates", up, forward.Stats{BytesIn: 3000}, 2 * time.Second, "3 open, 12 in all, in 1.0 kB/s, out 2.0 MB/s, 1 refused (slow)"},
		{"no time", up, forward.Stats{}, 0, "3 open, 12 in all, in 0 B/s, out 0 B/s, 1 refused (slow)"},
		{"backwards", up, forward.Stats{BytesIn: 6000, BytesOut: 5_000_000}, time.Second, "3 open, 12 in all, in 0 B/s, out 0 B/s, 1 refused (slow)"},
		{"away", table.Status{State: forward.StateFailed}, forward.Stats{}, time.Second, "failed"},
	} {
		if got := liveLine(tt.now, tt.before, tt.d); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
}

func TestResolveExpiry(t *testing.T) {
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	for in, want := range map[string]string{
		"": "", "90m": "2026-11-22T13:30:00Z", "2027-01-31T18:00:00+01:00": "2027-01-31T17:00:00Z",
		"-1h": "!", "0s": "!", "tomorrow": "!", "2026-11-22T12:00:00Z": "!",
	} {
		got, err := resolveExpiry(in, now)
		if err != nil {
			got = "!"
		}
		if got != want {
			t.Errorf("%q: %q, want %q (%v)", in, got, want, err)
		}
	}
}
