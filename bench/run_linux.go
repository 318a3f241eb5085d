package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fairlead-net/fairlead/bench/load"
)

// A bench is one run.
type bench struct {
	options
	self     string // this program, to be started again inside a namespace
	fairlead string // the program to measure, or ""
	peers    string // where "make peers" puts them
	dir      string // for configurations, sockets and state; readable by the users that daemons turn into
	report   *Report
}

// role is what this program does when it has started itself inside a namespace.
func role(name string) (error, bool) {
	switch name {
	case "load":
		return load.Run(), true
	case "serve":
		return load.Serve(), true
	case "start":
		return measureStarts(), true
	case "delay":
		return delays(), true
	case "map":
		return load.Map(), true
	case "agents":
		return agents(), true
	}
	return nil, false
}

func run(ctx context.Context, o options) error {
	if os.Geteuid() != 0 {
		return errors.New("the measurements need network namespaces, and so root")
	}
	b := &bench{options: o, report: newReport(o)}
	var err error
	if b.self, err = os.Executable(); err != nil {
		return err
	}
	if b.dir, err = os.MkdirTemp("", "fairlead-bench-"); err != nil {
		return err
	}
	defer os.RemoveAll(b.dir)
	if err := os.Chmod(b.dir, 0o755); err != nil {
		return err
	}
	if root, err := projectRoot(ctx); err == nil {
		b.peers = filepath.Join(root, "bin", "peers")
	}
	if b.fairlead, err = o.program(ctx); err != nil {
		return err
	}
	if b.beside != "" {
		if b.beside, err = filepath.Abs(b.beside); err != nil {
			return err
		}
	}
	sections := []struct {
		key, title string
		measure    func(context.Context, *harness) error
	}{
		{"a", "kernel carrier", b.kernelCarrier},
		{"b", "changes", b.changes},
		{"c", "relay", b.relays},
		{"d", "start", b.starts},
		{"e", "ssh and proxies", b.tunnels},
		{"f", "port mapping", b.grants},
		{"g", "reverse tunnels", b.reverses},
	}
	for _, s := range sections {
		if !o.wants(s.key) || ctx.Err() != nil {
			continue
		}
		fmt.Fprintf(os.Stderr, "%s: %s\n", s.key, s.title)
		err := scope(func(h *harness) error { return s.measure(ctx, h) })
		if err != nil && b.report.Unfinished == "" {
			b.report.Unfinished = fmt.Sprintf("%s (%s): %v", s.key, s.title, oneLine(err.Error()))
		}
	}
	if ctx.Err() != nil {
		b.report.Unfinished = "stopped: " + ctx.Err().Error()
	}
	return b.write()
}

func projectRoot(ctx context.Context) (string, error) {
	mod, err := exec.CommandContext(ctx, "go", "env", "GOMOD").Output()
	if err != nil {
		return "", fmt.Errorf("find the project: %w", err)
	}
	return filepath.Dir(strings.TrimSpace(string(mod))), nil
}

// program is the fairlead to measure, built when none was named.
func (o options) program(ctx context.Context) (string, error) {
	switch o.fairlead {
	case "none":
		return "", nil
	case "":
	default:
		return filepath.Abs(o.fairlead)
	}
	root, err := projectRoot(ctx)
	if err != nil {
		return "", err
	}
	bin := filepath.Join(root, "bin", "fairlead")
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", bin, "./cmd/fairlead")
	build.Dir, build.Env = root, append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build fairlead: %w\n%s", err, out)
	}
	return bin, nil
}

// write prints the tables and keeps the report as JSON and Markdown.
func (b *bench) write() error {
	r := b.report
	r.Tables = slices.DeleteFunc(r.Tables, (*Table).empty)
	if len(r.Tables) == 0 {
		return errors.New(cmp.Or(r.Unfinished, "nothing was measured"))
	}
	for _, t := range r.Tables {
		t.finish()
		fmt.Printf("\n%s\n", t.text())
	}
	if err := os.MkdirAll(b.out, 0o755); err != nil {
		return err
	}
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	base := filepath.Join(b.out, r.Date.Format("2006-01-02T150405")+"-"+r.Commit)
	if err := os.WriteFile(base+".json", append(text, '\n'), 0o644); err != nil {
		return err
	}
	if err := os.WriteFile(base+".md", []byte(r.markdown()), 0o644); err != nil {
		return err
	}
	fmt.Printf("\n%s.md\n", base)
	switch {
	case r.Unfinished != "":
		return errors.New(r.Unfinished)
	case r.failed():
		return errFailed
	}
	return nil
}

func newReport(o options) *Report {
	r := &Report{
		Date:   time.Now(),
		Commit: cmp.Or(firstLine("git", "describe", "--always", "--dirty", "--abbrev=10", "--exclude=*"), "unknown"),
		CPU:    cpuModel(), Processors: runtime.NumCPU(), Go: runtime.Version(), Rounds: o.rounds, Seconds: o.seconds,
		Versions: map[string]string{},
	}
	var uts unix.Utsname
	if unix.Uname(&uts) == nil {
		r.Kernel = unix.ByteSliceToString(uts.Release[:])
	}
	for name, args := range map[string][]string{
		"nft": {"--version"}, "nginx": {"-v"}, "haproxy": {"-v"}, "ssh": {"-V"}, "danted": {"-v"},
	} {
		if v := firstLine(name, args...); v != "" {
			r.Versions[name] = v
		}
	}
	return r
}

// firstLine is the first line of what a command writes, to either output, or "" when it does not run.
func firstLine(name string, args ...string) string {
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		return ""
	}
	line, _, _ := strings.Cut(string(out), "\n")
	return strings.TrimSpace(line)
}

func cpuModel() string {
	info, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return "unknown CPU"
	}
	for line := range strings.Lines(string(info)) {
		if key, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(key) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return runtime.GOARCH + " CPU"
}

// A contestant is measured for one value of a table at a time.
type contestant struct {
	name    string
	measure func(context.Context) (sample, error)
}

// A sample is one value of a row.
type sample struct {
	value  float64
	p99    time.Duration
	errors uint64
	err    string
	aside  map[*Table]float64 // what the same measurement says in other tables
}

// compare adds a table: every contestant in every round, one right after the other. One that fails is tried again in the
// next round.
func (b *bench) compare(ctx context.Context, t *Table, contestants []contestant) {
	b.report.Tables = append(b.report.Tables, t)
	for _, c := range contestants {
		t.row(c.name) // in this order, whoever begins
	}
	for round := range b.rounds {
		for _, i := range turns(round, len(contestants)) {
			b.measure(ctx, t, contestants[i])
		}
	}
}

// measure adds a value to the contestant's row. What was cut short is no result.
func (b *bench) measure(ctx context.Context, t *Table, c contestant) {
	if ctx.Err() != nil {
		return
	}
	if s, err := c.measure(ctx); ctx.Err() == nil {
		b.record(t, c.name, s, err)
	}
}

// record adds a round's value to a row. A failure is a gap, so that the rounds of different rows stay beside each other.
func (b *bench) record(t *Table, name string, s sample, err error) {
	if err != nil {
		for other := range s.aside {
			s.aside[other] = math.NaN()
		}
		s = sample{value: math.NaN(), err: err.Error(), aside: s.aside}
	}
	for other, v := range s.aside {
		r := other.row(name)
		r.Values, r.Error = append(r.Values, v), s.err
	}
	r := t.row(name)
	r.Values = append(r.Values, s.value)
	p99 := math.NaN()
	if s.p99 > 0 {
		p99 = ms(s.p99)
	}
	r.P99 = append(r.P99, p99)
	r.Errors += s.errors
	if s.err != "" {
		r.Error = s.err
	}
	fmt.Fprintf(os.Stderr, "  %2d  %-38s %-28s %s %s\n", len(r.Values), t.Title, name, figure(s.value), oneLine(s.err))
}

func ms(d time.Duration) float64 { return float64(d) / 1e6 }
