package main

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/term"

	"github.com/fairlead-net/fairlead/forward"
	"github.com/fairlead-net/fairlead/table"
)

// clearLine brings the cursor to the start of the line and wipes it (ECMA-48, EL).
const clearLine = "\r\x1b[K"

// A screen prints lines, and on a terminal below them one line that is drawn again and again. What is logged while it
// stands is written above it.
type screen struct {
	live bool // there is a terminal to redraw on
	out  io.Writer
	log  io.Writer

	mu   sync.Mutex
	line string // what stands in the last line now
}

func newScreen(out, log io.Writer) *screen { return &screen{out: out, log: log, live: isTerminal(out)} }

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// print writes a line that stays.
func (s *screen) print(line string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.wipe()
	fmt.Fprintln(s.out, line)
	s.draw()
}

// update draws the live line anew.
func (s *screen) update(line string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.wipe()
	s.line = line
	s.draw()
}

// clear takes the live line away for good.
func (s *screen) clear() { s.update("") }

// Write writes what is logged.
func (s *screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.wipe()
	defer s.draw()
	return s.log.Write(p)
}

func (s *screen) wipe() {
	if s.live && s.line != "" {
		io.WriteString(s.out, clearLine)
	}
}

func (s *screen) draw() {
	if !s.live || s.line == "" {
		return
	}
	line := []rune(s.line)
	if f, ok := s.out.(*os.File); ok { // a line that wraps could not be wiped
		if width, _, err := term.GetSize(int(f.Fd())); err == nil && width > 0 && len(line) >= width {
			line = line[:width-1]
		}
	}
	io.WriteString(s.out, string(line))
}

// liveLine says what passes now: sessions, and the rate each way since before.
func liveLine(st table.Status, before forward.Stats, d time.Duration) string {
	now := st.Stats
	if st.State != forward.StateUp {
		return st.State.String()
	}
	rate := func(now, before uint64) string {
		if now < before || d <= 0 {
			return "0 B/s"
		}
		return humanBytes(uint64(float64(now-before)/d.Seconds())) + "/s"
	}
	line := fmt.Sprintf("%d open, %d in all, in %s, out %s", now.Open, now.Total, rate(now.BytesIn, before.BytesIn), rate(now.BytesOut, before.BytesOut))
	if now.Refused > 0 {
		line += fmt.Sprintf(", %d refused", now.Refused)
	}
	if now.Note != "" {
		line += " (" + plain(now.Note) + ")"
	}
	return line
}
