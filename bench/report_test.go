package main

import (
	"encoding/json"
	"math"
	"strings"
	"testing"
	"time"
)

func TestFigure(t *testing.T) {
	tests := map[float64]string{
		0: "0.00", 0.957: "0.96", 12.34: "12.3", 123.4: "123", 1234.4: "1,234", 25300: "25,300", 1234567: "1,234,567",
		-1234: "-1,234", -123456: "-123,456", math.NaN(): "–",
	}
	for v, want := range tests {
		if got := figure(v); got != want {
			t.Errorf("figure(%v) = %q, want %q", v, got, want)
		}
	}
}

func sampleReport() *Report {
	table := &Table{
		Section: "a", Title: "new connections", Unit: "/s", Against: []string{"nft", "absent"},
		Rows: []*Row{
			{Name: "nft", Values: []float64{100, 200, 150}, P99: []float64{1, 2, 3}},
			{Name: "ours", Values: []float64{99, 198, math.NaN()}, Error: "no | route\nto host"},
			{Name: "none"},
		},
		Targets: []Target{{Row: "ours", By: []string{"nft"}, Min: 0.95}, {Row: "ours", Max: 100}, {Row: "none", Max: 1}},
	}
	table.finish()
	return &Report{
		Date: time.Date(2026, 11, 22, 20, 0, 0, 0, time.UTC), Commit: "abc", CPU: "a CPU", Processors: 2, Rounds: 3, Seconds: 2,
		Versions: map[string]string{"nginx": "1.22.1"}, Tables: []*Table{table},
	}
}

func TestReport(t *testing.T) {
	r := sampleReport()
	table := r.Tables[0]
	if got := table.row("ours").Ratios["nft"]; got != 0.99 {
		t.Errorf("ratio %v", got)
	}
	if !r.failed() {
		t.Error("a round that failed went unnoticed")
	}
	for _, want := range []string{
		"target reached: ours is 0.990 of nft, and at least 0.95 is asked",
		"target MISSED: ours is 148 /s, and at most 100 is asked", // 148.5, rounded to even
		"target for none: not measured",
		"1 of 3 rounds failed: no / route to host",
	} {
		if !strings.Contains(table.text(), want) {
			t.Errorf("the table does not say %q:\n%s", want, table.text())
		}
		if !strings.Contains(r.markdown(), want) {
			t.Errorf("the page does not say %q:\n%s", want, r.markdown())
		}
	}
	if strings.Contains(table.text(), "absent") {
		t.Errorf("a comparison with nothing:\n%s", table.text())
	}
}

// A target by several rows is one by that which is hardest to beat, whichever way is better.
func TestTargetByTheBetter(t *testing.T) {
	both := []string{"a", "b"}
	nan := math.NaN()
	rates := &Table{Unit: "/s", Against: both, Rows: []*Row{
		{Name: "a", Values: []float64{100, 100, 100}, P99: []float64{2, 2, 2}, Errors: 4},
		{Name: "b", Values: []float64{110, 130, 90}, P99: []float64{1, 1, nan}, Errors: 3},
		{Name: "ours", Values: []float64{121, 143, 110}, P99: []float64{1.5, 1.5, 9}, Errors: 4},
		{Name: "absent", Values: []float64{nan}},
	}}
	costs := &Table{Unit: "s/GB", Lower: true, Against: both, Rows: []*Row{
		{Name: "a", Values: []float64{1}}, {Name: "b", Values: []float64{2}}, {Name: "ours", Values: []float64{1.2}},
	}}
	tests := []struct {
		table  *Table
		target Target
		want   string
	}{
		{rates, Target{Row: "ours", By: both, Min: 1.1}, "target reached: ours is 1.100 of b, the hardest to beat, and at least 1.10 is asked"},
		{rates, Target{Row: "ours", By: both, Min: 1.15}, "MISSED"},
		{rates, Target{Row: "ours", By: []string{"a", "absent"}, Min: 1.2}, "reached: ours is 1.210 of a"},
		{rates, Target{Row: "ours", By: []string{"absent"}, Min: 1}, "target for ours: not measured"},
		{rates, Target{Row: "ours", By: both, Of: ofP99, Max: 1},
			"MISSED: p99 of ours is 1.500 of that of b, the hardest to beat, and at most 1.00 is asked"},
		{rates, Target{Row: "ours", By: both, Of: ofErrors}, "MISSED: ours has 4 errors, and no more than the 3 of b are asked"},
		{rates, Target{Row: "ours", By: both[:1], Of: ofErrors}, "reached"},
		{rates, Target{Row: "ours", Min: 100}, "reached: ours is 121 /s, and at least 100 is asked"},
		{costs, Target{Row: "ours", By: both, Max: 1}, "MISSED: ours is 1.200 of a"},
		{costs, Target{Row: "a", By: []string{"b"}, Max: 1}, "reached: a is 0.500 of b, and at most"},
	}
	for _, tt := range tests {
		if got := tt.target.verdict(tt.table); !strings.Contains(got, tt.want) {
			t.Errorf("%+v: %q, want %q in it", tt.target, got, tt.want)
		}
	}
}

func TestReportJSON(t *testing.T) {
	text, err := json.Marshal(sampleReport())
	if err != nil {
		t.Fatal(err)
	}
	var back struct {
		Tables []struct {
			Rows []struct {
				Name   string
				Median *float64
				Rounds []*float64
				Ratios map[string]float64
			}
		}
	}
	if err := json.Unmarshal(text, &back); err != nil {
		t.Fatal(err)
	}
	rows := back.Tables[0].Rows
	if *rows[1].Median != 148.5 || rows[1].Rounds[2] != nil || rows[1].Ratios["nft"] != 0.99 || rows[2].Median != nil {
		t.Errorf("%s", text)
	}
}
