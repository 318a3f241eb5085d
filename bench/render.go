package main

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
)

// figure writes a number with three significant digits and, when it is large, with separators between the thousands.
func figure(v float64) string {
	switch a := math.Abs(v); {
	case math.IsNaN(v):
		return "–"
	case a >= 1000:
		return thousands(int64(math.Round(v)))
	case a >= 100:
		return strconv.FormatFloat(v, 'f', 0, 64)
	case a >= 10:
		return strconv.FormatFloat(v, 'f', 1, 64)
	default:
		return strconv.FormatFloat(v, 'f', 2, 64)
	}
}

func thousands(n int64) string {
	s := strconv.FormatInt(n, 10)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// cells is the table as text: a header and a line for each row.
func (t *Table) cells() [][]string {
	header := []string{t.Title, t.Unit, "± of it"}
	timed := slices.ContainsFunc(t.Rows, func(r *Row) bool { return len(valid(r.P99)) > 0 })
	if timed {
		header = append(header, "p99 ms")
	}
	var against []string
	for _, name := range t.Against {
		if t.has(name) {
			against = append(against, name)
			header = append(header, "by "+name)
		}
	}
	header = append(header, "errors")
	lines := [][]string{header}
	for _, r := range t.Rows {
		line := []string{r.Name, figure(median(r.Values)), percent(spread(r.Values) / 2)}
		if timed {
			line = append(line, figure(median(r.P99)))
		}
		for _, name := range against {
			if name == r.Name {
				line = append(line, "1")
			} else {
				line = append(line, figure(r.Ratios[name]))
			}
		}
		lines = append(lines, append(line, trouble(r)))
	}
	return lines
}

func percent(v float64) string {
	if math.IsNaN(v) {
		return "–"
	}
	return fmt.Sprintf("%.0f %%", 100*v)
}

func trouble(r *Row) string {
	missing := len(r.Values) - len(valid(r.Values))
	switch {
	case missing > 0:
		return fmt.Sprintf("%d of %d rounds failed: %s", missing, len(r.Values), oneLine(r.Error))
	case r.Errors > 0:
		return fmt.Sprintf("%s (%s)", thousands(int64(r.Errors)), oneLine(r.Error))
	default:
		return ""
	}
}

// oneLine keeps an error from breaking a table.
func oneLine(s string) string {
	s = strings.ReplaceAll(strings.Join(strings.Fields(s), " "), "|", "/")
	if len(s) > 300 {
		s = strings.ToValidUTF8(s[:300], "") + "…"
	}
	return s
}

// text is the table for a terminal.
func (t *Table) text() string {
	lines := t.cells()
	widths := make([]int, len(lines[0]))
	for _, line := range lines {
		for i, cell := range line {
			widths[i] = max(widths[i], len([]rune(cell)))
		}
	}
	var b strings.Builder
	for _, line := range lines {
		var row strings.Builder
		for i, cell := range line {
			pad := strings.Repeat(" ", widths[i]-len([]rune(cell)))
			if i == 0 || i == len(line)-1 {
				row.WriteString(cell + pad + "  ")
			} else {
				row.WriteString(pad + cell + "  ")
			}
		}
		b.WriteString(strings.TrimRight(row.String(), " ") + "\n")
	}
	for _, note := range t.remarks() {
		b.WriteString("  " + note + "\n")
	}
	return b.String()
}

func (t *Table) remarks() []string {
	notes := slices.Clone(t.Notes)
	for _, g := range t.Targets {
		notes = append(notes, g.verdict(t))
	}
	return notes
}

// markdown is the whole report.
func (r *Report) markdown() string {
	var b strings.Builder
	fmt.Fprintf(&b, "# Bench, %s, commit %s\n\n", r.Date.Format("2006-01-02 15:04"), r.Commit)
	fmt.Fprintf(&b, "%s, %d processors, Linux %s, %s. Medians of %d rounds of %g s; ratios are medians of the rounds' ratios.\n",
		r.CPU, r.Processors, r.Kernel, r.Go, r.Rounds, r.Seconds)
	b.WriteString("Load generator, relay and server share the processors, each in a namespace of its own.\n")
	if r.Unfinished != "" {
		fmt.Fprintf(&b, "\n**Unfinished: %s.**\n", r.Unfinished)
	}
	if len(r.Versions) > 0 {
		b.WriteString("\n")
		for _, name := range slices.Sorted(maps.Keys(r.Versions)) {
			fmt.Fprintf(&b, "- %s: %s\n", name, r.Versions[name])
		}
	}
	for _, t := range r.Tables {
		b.WriteString("\n")
		for i, line := range t.cells() {
			b.WriteString("| " + strings.Join(line, " | ") + " |\n")
			if i == 0 {
				b.WriteString("| --- |" + strings.Repeat(" ---: |", len(line)-2) + " --- |\n")
			}
		}
		for i, note := range t.remarks() {
			if i == 0 {
				b.WriteString("\n")
			}
			b.WriteString("- " + note + "\n")
		}
	}
	return b.String()
}
