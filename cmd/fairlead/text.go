package main

import (
	"bufio"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// A grid prints aligned columns. A note under a row does not take part in the alignment, which text/tabwriter cannot do.
type grid struct {
	rows   [][]string
	notes  map[int][]string // by the row that they stand under
	widths []int
}

func newGrid(head ...string) *grid {
	g := &grid{notes: map[int][]string{}, widths: make([]int, len(head))}
	g.row(head...)
	return g
}

func (g *grid) row(cells ...string) {
	for i, c := range cells {
		g.widths[i] = max(g.widths[i], utf8.RuneCountInString(c))
	}
	g.rows = append(g.rows, cells)
}

func (g *grid) note(text string) {
	at := len(g.rows) - 1
	g.notes[at] = append(g.notes[at], text)
}

func (g *grid) print(w io.Writer) error {
	out := bufio.NewWriter(w)
	for i, row := range g.rows {
		var line strings.Builder
		for j, c := range row {
			line.WriteString(c)
			if j < len(row)-1 {
				line.WriteString(strings.Repeat(" ", g.widths[j]-utf8.RuneCountInString(c)+2))
			}
		}
		fmt.Fprintln(out, strings.TrimRight(line.String(), " "))
		for _, note := range g.notes[i] {
			fmt.Fprintln(out, "  "+note)
		}
	}
	return out.Flush()
}

// humanBytes is n the way people read it: three digits and a unit of 1000.
func humanBytes(n uint64) string {
	if n < 1000 {
		return fmt.Sprintf("%d B", n)
	}
	f, unit := float64(n), 0
	for f >= 999.5 && unit < 6 {
		f, unit = f/1000, unit+1
	}
	digits := 0
	if f < 9.95 {
		digits = 1
	}
	return fmt.Sprintf("%.*f %cB", digits, f, " kMGTPE"[unit])
}

// humanAge is how long ago t was, in one or two units.
func humanAge(t *time.Time, now time.Time) string {
	if t == nil {
		return "?"
	}
	d := max(now.Sub(*t), 0).Truncate(time.Second)
	switch {
	case d >= 24*time.Hour:
		return fmt.Sprintf("%dd%dh", d/(24*time.Hour), d%(24*time.Hour)/time.Hour)
	case d >= time.Hour:
		return fmt.Sprintf("%dh%dm", d/time.Hour, d%time.Hour/time.Minute)
	case d >= time.Minute:
		return fmt.Sprintf("%dm%ds", d/time.Minute, d%time.Minute/time.Second)
	}
	return d.String()
}

// plain makes text that came from elsewhere harmless for a terminal.
func plain(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 || unicode.In(r, unicode.Cf, unicode.Zl, unicode.Zp) { // the last turn lines about
			return '?'
		}
		return r
	}, s)
}
