package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	startForwards = 10
	startPort     = 7500
)

// A startSpec is the order to start a program some times, as JSON on the standard input of the role "start". That role runs
// inside the namespace, so that nothing but the program itself is between its start and its first answer.
type startSpec struct {
	Command []string
	Address string // connections to it must succeed
	Times   int
}

// starts measures how long a program takes from its start until it serves, and its memory when it does nothing.
func (b *bench) starts(ctx context.Context, h *harness) error {
	f := b.newField(h)
	g := f.gateway(h)
	listening := &Table{
		Section: "d", Title: "start to listening, 10 relay forwards", Unit: "ms", Lower: true,
		Notes:   []string{"from fork to the first connection that the last of its ports takes; the median of 5 starts in each round"},
		Targets: []Target{{Row: "fairlead", Max: 50}},
	}
	idle := &Table{
		Section: "d", Title: "resident memory, idle", Unit: "MB", Lower: true,
		Notes:   []string{"one second after the start, all processes; what several processes share counts for each"},
		Targets: []Target{{Row: "fairlead", Max: 25}},
	}
	var starting, resting []contestant
	for _, r := range b.resting() {
		starting = append(starting, contestant{r.name, func(ctx context.Context) (sample, error) {
			command, err := b.startCommand(g, r.name)
			if err != nil {
				return sample{}, err
			}
			took, err := b.start(ctx, g, startSpec{command, fmt.Sprintf("%s:%d", g.front, startPort+startForwards-1), 5})
			return sample{value: median(took)}, err
		}})
		resting = append(resting, contestant{r.name, func(ctx context.Context) (sample, error) {
			running, err := r.start(ctx, b, g, startPort, startForwards)
			if err != nil {
				return sample{}, err
			}
			defer running.stop()
			if err := pause(ctx, settle); err != nil {
				return sample{}, err
			}
			kilobytes, err := sumTree(running.process.Pid(), resident)
			return sample{value: kilobytes / 1000}, err
		}})
	}
	b.compare(ctx, listening, starting)
	b.compare(ctx, idle, resting)
	return nil
}

// startCommand is the command line of a relay with its configuration written.
func (b *bench) startCommand(g *gateway, name string) ([]string, error) {
	file := filepath.Join(b.dir, "start-"+name)
	var config string
	var command []string
	switch name {
	case "nginx":
		config, command = nginxConfig(b, g, startPort, startForwards, ""), []string{"nginx", "-e", "stderr", "-c", file}
	case "haproxy":
		config, command = haproxyConfig(g, startPort, startForwards, "", ""), []string{"haproxy", "-db", "-f", file}
	default:
		if b.fairlead == "" {
			return nil, errNoFairlead
		}
		config = relayForwards(g, startPort, startForwards)
		command = []string{b.fairlead, "up", "-c", file, "--socket", file + ".sock", "--state", file + ".state"}
	}
	return command, os.WriteFile(file, []byte(config), 0o644)
}

// start has a program started inside the gateway's namespace, with the times in milliseconds.
func (b *bench) start(ctx context.Context, g *gateway, s startSpec) ([]float64, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	spec, err := json.Marshal(s)
	if err != nil {
		return nil, err
	}
	cmd := g.Command(ctx, b.self, "start")
	var stdout, stderr bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(spec), &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("start %s: %w: %s", s.Command[0], err, tail(stderr.String()))
	}
	var took []float64
	return took, json.Unmarshal(stdout.Bytes(), &took)
}

// measureStarts is the role "start".
func measureStarts() error {
	var s startSpec
	if err := json.NewDecoder(os.Stdin).Decode(&s); err != nil {
		return fmt.Errorf("order to start: %w", err)
	}
	var took []float64
	for range s.Times {
		d, err := s.once()
		if err != nil {
			return err
		}
		took = append(took, ms(d))
	}
	return json.NewEncoder(os.Stdout).Encode(took)
}

// once starts the program, measures, and ends it.
func (s startSpec) once() (time.Duration, error) {
	var output strings.Builder
	cmd := exec.Command(s.Command[0], s.Command[1:]...)
	cmd.Stdout, cmd.Stderr, cmd.WaitDelay = &output, &output, time.Second
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: unix.SIGTERM}
	began := time.Now()
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = cmd.Wait() // how it ended is in its state
	}()
	defer func() {
		_ = cmd.Process.Signal(unix.SIGTERM)
		select {
		case <-ended:
		case <-time.After(5 * time.Second):
			_ = unix.Kill(-cmd.Process.Pid, unix.SIGKILL)
			<-ended
		}
	}()
	for time.Since(began) < 10*time.Second {
		if c, err := net.Dial("tcp4", s.Address); err == nil {
			took := time.Since(began)
			_ = c.(*net.TCPConn).SetLinger(0)
			_ = c.Close()
			return took, nil
		}
		select {
		case <-ended:
			return 0, fmt.Errorf("%s has ended: %s: %s", s.Command[0], cmd.ProcessState, tail(output.String()))
		case <-time.After(200 * time.Microsecond):
		}
	}
	return 0, fmt.Errorf("%s does not listen at %s", s.Command[0], s.Address)
}
