package main

import (
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fairlead-net/fairlead/forward"
	"github.com/fairlead-net/fairlead/table"
)

// TestSharedTarget: who shares a program that does not run is told so at once, and when a visitor comes, and when it runs.
func TestSharedTarget(t *testing.T) {
	const refused = "target 127.0.0.1:9999: connection refused"
	answer := error(syscall.ECONNREFUSED) // of the target
	type moment struct {
		after  time.Duration
		answer error
		stats  forward.Stats
	}
	for _, test := range []struct {
		name    string
		udp     bool
		moments []moment
		want    string
		asked   int
	}{
		{"it runs", false, []moment{{}, {}, {10 * time.Second, nil, forward.Stats{Total: 3}}}, "", 1},
		{"it does not, and then does", false, []moment{
			{0, answer, forward.Stats{}}, {time.Second / 2, answer, forward.Stats{}}, {time.Second, answer, forward.Stats{}},
			{time.Second / 2, answer, forward.Stats{}}, {3 * time.Second, nil, forward.Stats{}}, {time.Second, nil, forward.Stats{}},
		}, "nothing answers at 127.0.0.1:9999 yet: connection refused; it is shared all the same | 127.0.0.1:9999 answers now", 3},
		{"visitors", false, []moment{
			{}, {}, {time.Second, answer, forward.Stats{Refused: 1, Note: refused}}, {time.Second / 10, answer, forward.Stats{Refused: 2, Note: refused}},
			{time.Second / 10, answer, forward.Stats{Refused: 3, Note: refused}}, {11 * time.Second, answer, forward.Stats{Refused: 3, Note: refused}},
			{time.Second, nil, forward.Stats{Refused: 3, Total: 1}}, {time.Second, nil, forward.Stats{Refused: 4, Total: 1}},
		}, "1 visitor was turned away: 127.0.0.1:9999 does not answer: connection refused | " +
			"2 visitors were turned away: 127.0.0.1:9999 does not answer: connection refused | 127.0.0.1:9999 answers now", 1},
		{"turned away for something else", false, []moment{{}, {}, {time.Second, nil, forward.Stats{Refused: 7, Note: "accepting is paused"}}}, "", 1},
		{"of UDP", true, []moment{
			{0, answer, forward.Stats{}}, {time.Second, answer, forward.Stats{Refused: 1, Total: 1, BytesIn: 9, Note: refused}},
			{time.Second, answer, forward.Stats{Refused: 1, Total: 2, BytesIn: 18}}, {time.Second, answer, forward.Stats{Refused: 1, Total: 2, BytesIn: 18, BytesOut: 5}},
		}, "1 visitor was turned away: 127.0.0.1:9999 does not answer: connection refused | 127.0.0.1:9999 answers now", 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := &forward.Forward{Listen: forward.Listen{Networks: forward.TCP}, To: []forward.Target{{Host: "127.0.0.1", Ports: forward.Range{First: 9999, Last: 9999}}}}
				if test.udp {
					f.Listen.Networks = forward.UDP
				}
				var g sharedTarget
				var said []string
				asked := 0
				for _, now := range test.moments {
					time.Sleep(now.after)
					event := g.news(f, table.Status{Stats: now.stats}, func() <-chan error {
						asked++
						answer := make(chan error, 1)
						answer <- now.answer
						return answer
					})
					if event != nil {
						said = append(said, event.line())
					}
				}
				if got := strings.Join(said, " | "); got != test.want || asked != test.asked {
					t.Errorf("asked %d times, want %d; said\n %s\nwant\n %s", asked, test.asked, got, test.want)
				}
			})
		})
	}
}
