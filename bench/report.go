package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"time"
)

// A Report is one run: what was measured, where, and what came of it.
type Report struct {
	Date       time.Time         `json:"date"`
	Commit     string            `json:"commit"` // "-dirty" behind it: with changes that were not committed
	CPU        string            `json:"cpu"`
	Processors int               `json:"processors"`
	Kernel     string            `json:"kernel"`
	Go         string            `json:"go"`
	Versions   map[string]string `json:"versions"` // of the programs beside which we are measured
	Rounds     int               `json:"rounds"`
	Seconds    float64           `json:"seconds"` // of one measurement
	Unfinished string            `json:"unfinished,omitempty"`
	Tables     []*Table          `json:"tables"`
}

// A Table is one measurement of several contestants.
type Table struct {
	Section string   `json:"section"` // a to g
	Title   string   `json:"title"`
	Unit    string   `json:"unit"`
	Lower   bool     `json:"lower_is_better,omitempty"`
	Against []string `json:"-"` // the rows that the others are compared with, first the one that matters
	Notes   []string `json:"notes,omitempty"`
	Rows    []*Row   `json:"rows"`
	Targets []Target `json:"-"`
}

// A Row is one contestant of a table, with a value for each round.
type Row struct {
	Name   string
	Values []float64 // NaN: that round failed
	P99    []float64 // milliseconds, NaN like Values; no number in it where single operations are not timed
	Errors uint64
	Error  string // one of them, or why a round failed
	Ratios map[string]float64
}

// A Target is what a row has to reach: at least Min or at most Max, whichever is not zero. It is a multiple of what the rows By
// have, of several the one that is hardest to beat, or without By of the table's unit.
type Target struct {
	Row      string
	By       []string
	Of       quantity
	Min, Max float64
}

// quantity is which of a row's figures a target is about. Of errors it asks for no more than each of By has, and of nothing
// else.
type quantity int

const (
	ofValue quantity = iota
	ofP99
	ofErrors
)

// row finds or adds a row.
func (t *Table) row(name string) *Row {
	for _, r := range t.Rows {
		if r.Name == name {
			return r
		}
	}
	r := &Row{Name: name}
	t.Rows = append(t.Rows, r)
	return r
}

// has reports whether something was measured for the row.
func (t *Table) has(name string) bool {
	for _, r := range t.Rows {
		if r.Name == name {
			return !math.IsNaN(median(r.Values))
		}
	}
	return false
}

// empty reports whether no row has come to a single round.
func (t *Table) empty() bool {
	return !slices.ContainsFunc(t.Rows, func(r *Row) bool { return len(r.Values) > 0 })
}

// finish works out the ratios.
func (t *Table) finish() {
	for _, r := range t.Rows {
		r.Ratios = map[string]float64{}
		for _, name := range t.Against {
			if name != r.Name && t.has(name) {
				r.Ratios[name] = t.ratio(r, name)
			}
		}
	}
}

// ratio is that of a row by another.
func (t *Table) ratio(r *Row, by string) float64 {
	return ratio(r.Values, t.row(by).Values)
}

// verdict says in words whether the target is reached.
func (g Target) verdict(t *Table) string {
	by := slices.DeleteFunc(slices.Clone(g.By), func(name string) bool { return !t.has(name) })
	if !t.has(g.Row) || len(g.By) > 0 && len(by) == 0 {
		return fmt.Sprintf("target for %s: not measured", g.Row)
	}
	row := t.row(g.Row)
	switch {
	case g.Of == ofErrors:
		least := slices.MinFunc(by, func(a, b string) int { return cmp.Compare(t.row(a).Errors, t.row(b).Errors) })
		limit := t.row(least).Errors
		return fmt.Sprintf("target %s: %s has %s errors, and no more than the %s of %s are asked", word(row.Errors <= limit),
			g.Row, thousands(int64(row.Errors)), thousands(int64(limit)), least)
	case len(by) == 0:
		got := median(row.Values)
		return fmt.Sprintf("target %s: %s is %s %s, and %s is asked", word(g.reached(got)), g.Row, figure(got), t.Unit,
			g.bound(figure))
	}
	got, best := g.worst(t, row, by)
	name := g.Row
	if g.Of == ofP99 {
		name, best = "p99 of "+name, "that of "+best
	}
	if len(g.By) > 1 {
		best += ", the hardest to beat"
	}
	return fmt.Sprintf("target %s: %s is %.3f of %s, and %s is asked", word(g.reached(got)), name, got, best,
		g.bound(func(v float64) string { return fmt.Sprintf("%.2f", v) }))
}

// worst is the least favourable of the row's ratios by others, and by whom that is.
func (g Target) worst(t *Table, r *Row, by []string) (float64, string) {
	got, best := math.NaN(), ""
	for _, name := range by {
		v := t.ratio(r, name)
		if g.Of == ofP99 {
			v = ratio(r.P99, t.row(name).P99)
		}
		if best == "" || g.Min != 0 && v < got || g.Min == 0 && v > got {
			got, best = v, name
		}
	}
	return got, best
}

func (g Target) reached(v float64) bool {
	if g.Min != 0 {
		return v >= g.Min
	}
	return v <= g.Max
}

func (g Target) bound(write func(float64) string) string {
	if g.Min != 0 {
		return "at least " + write(g.Min)
	}
	return "at most " + write(g.Max)
}

func word(reached bool) string {
	if reached {
		return "reached"
	}
	return "MISSED"
}

// failed reports whether a row has a round without a value.
func (r *Report) failed() bool {
	for _, t := range r.Tables {
		for _, row := range t.Rows {
			if len(valid(row.Values)) < len(row.Values) || len(row.Values) == 0 {
				return true
			}
		}
	}
	return r.Unfinished != ""
}

// numbers are written to JSON with null for what was not measured.
type numbers []float64

func (n numbers) MarshalJSON() ([]byte, error) {
	list := make([]*float64, len(n))
	for i, v := range n {
		if !math.IsNaN(v) && !math.IsInf(v, 0) {
			list[i] = &n[i]
		}
	}
	return json.Marshal(list)
}

// MarshalJSON adds the figures that people look for to the rounds.
func (r *Row) MarshalJSON() ([]byte, error) {
	number := func(v float64) *float64 {
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return nil
		}
		return &v
	}
	ratios := map[string]*float64{}
	for k, v := range r.Ratios {
		ratios[k] = number(v)
	}
	return json.Marshal(struct {
		Name   string              `json:"name"`
		Median *float64            `json:"median"`
		Spread *float64            `json:"spread"`
		P99    *float64            `json:"p99_ms,omitempty"`
		Ratios map[string]*float64 `json:"ratios,omitempty"`
		Rounds numbers             `json:"rounds"`
		Errors uint64              `json:"errors,omitempty"`
		Error  string              `json:"error,omitempty"`
	}{r.Name, number(median(r.Values)), number(spread(r.Values)), number(median(r.P99)), ratios, r.Values, r.Errors, r.Error})
}
