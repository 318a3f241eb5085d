package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fairlead-net/fairlead/bench/load"
	"github.com/fairlead-net/fairlead/internal/netlab"
)

const (
	badDelay = 50 * time.Millisecond // each way
	badLoss  = 0.01                  // each way
	badWarm  = 3 * time.Second       // thirty turns
	cutTime  = 15 * time.Second      // longer than it takes to notice

	backWithin = time.Minute // after which it is given up
)

// reverseLossy measures bulk over a line that is far and loses packets.
func (b *bench) reverseLossy(ctx context.Context, s *reverseField, all []*reverse, notes []string) {
	long := *b
	long.rounds, long.seconds = min(b.rounds, 3), min(10, 4*b.seconds)
	quality := netlab.Quality{Delay: badDelay, Loss: badLoss}
	t := reverseTable(fmt.Sprintf("%d ms of delay, %g %% of loss: bulk down, 1 stream", 2*badDelay.Milliseconds(), 100*badLoss), "Mb/s", notes, atLeast(2, frpName))
	t.Notes = append(t.Notes, fmt.Sprintf("%d slices of %.3g s each, by turns, each after %v; each packet between hub and agent is %v late, and lost by that chance, either way",
		long.rounds, long.seconds, badWarm, badDelay))
	if !b.wanted(t) {
		return
	}
	var contestants []contestant
	for _, r := range all {
		// What arrives is counted: a sender would count what is in its buffers, which is more than what comes through.
		work := workload{table: t, scale: 8e-6, spec: load.Spec{Kind: load.Fetch, Workers: 1, Size: 64 << 10, Warm: badWarm}}
		measure := long.caller(r.name, work, call{from: s.client, to: s.at(r.base, load.FetchPort)}, r.fErr).measure
		quality := quality
		contestants = append(contestants, contestant{r.name, func(ctx context.Context) (sample, error) {
			quality.Seed++ // the same for all in a round
			s.line.Set(quality)
			defer s.line.Set(netlab.Quality{})
			return measure(ctx)
		}})
	}
	long.compare(ctx, t, contestants)
}

// reverseBack measures how long it takes after a line is mended that was cut until somebody is served again. All are cut at once.
func (b *bench) reverseBack(ctx context.Context, s *reverseField, all []*reverse, notes []string) {
	t := reverseTable(fmt.Sprintf("a line that was cut for %v carries again", cutTime), "s", notes, Target{Row: "fairlead", Max: 1})
	t.Lower = true
	t.Notes = append(t.Notes, "from the mended line to the first answer over a new connection, of which one is begun every 50 ms; "+
		"one that was open before asks over and over meanwhile, and it is an error if it is lost")
	if !b.wanted(t) {
		return
	}
	b.report.Tables = append(b.report.Tables, t)
	for _, r := range all {
		t.row(r.name)
	}
	for range min(b.rounds, 3) {
		samples, errs, err := s.interrupt(ctx, all, cutTime)
		if err != nil {
			return
		}
		for i, r := range all {
			b.record(t, r.name, samples[i], errs[i])
		}
	}
}

// interrupt cuts the line once, for so long. The error is that there was no time for it.
func (s *reverseField) interrupt(ctx context.Context, all []*reverse, cut time.Duration) (samples []sample, errs []error, err error) {
	samples, errs = make([]sample, len(all)), make([]error, len(all))
	open := make([]*asker, len(all))
	for i, r := range all {
		if errs[i] = r.fErr; errs[i] == nil {
			open[i], errs[i] = s.ask(ctx, s.at(r.base, load.EchoPort))
		}
		if errs[i] == nil {
			defer open[i].close()
		}
	}
	s.line.Cut()
	err = pause(ctx, cut)
	s.line.Mend()
	if err != nil {
		return nil, nil, err
	}
	var waiting sync.WaitGroup
	for i, r := range all {
		if errs[i] != nil {
			continue
		}
		waiting.Go(func() {
			var took time.Duration
			took, errs[i] = s.answered(ctx, s.at(r.base, load.EchoPort))
			samples[i].value = took.Seconds()
			if err := open[i].asks(ctx); err != nil {
				samples[i].errors, samples[i].err = 1, "the open connection is lost: "+err.Error()
			}
		})
	}
	waiting.Wait()
	return samples, errs, ctx.Err()
}

// answered is how long it takes until a new connection is answered.
func (s *reverseField) answered(ctx context.Context, addr string) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, backWithin)
	var tries sync.WaitGroup
	defer tries.Wait()
	defer cancel()
	began := time.Now()
	first := make(chan time.Duration, 1)
	for {
		tries.Go(func() {
			c, err := s.client.Dial(ctx, "tcp", addr)
			if err != nil {
				return
			}
			defer c.Close()
			defer context.AfterFunc(ctx, func() { _ = c.Close() })()
			if exchange(c) == nil {
				select {
				case first <- time.Since(began):
				default: // another was faster
				}
			}
		})
		select {
		case took := <-first:
			return took, nil
		case <-ctx.Done():
			return 0, fmt.Errorf("no new connection was answered for %v", backWithin)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// exchange has 64 bytes echoed.
func exchange(c net.Conn) error {
	b := make([]byte, 64)
	if _, err := c.Write(b); err != nil {
		return err
	}
	_, err := io.ReadFull(c, b)
	return err
}

// An asker has a connection on which it asks over and over until that fails.
type asker struct {
	c       net.Conn
	answers atomic.Int64
	ended   chan struct{}
	err     error // to be read after ended
}

// ask opens a connection that has been answered once.
func (s *reverseField) ask(ctx context.Context, addr string) (*asker, error) {
	c, err := s.client.Dial(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	a := &asker{c: c, ended: make(chan struct{})}
	_ = c.SetDeadline(time.Now().Add(5 * time.Second))
	if err := exchange(c); err != nil {
		_ = c.Close()
		return nil, err
	}
	_ = c.SetDeadline(time.Time{})
	go a.run()
	return a, nil
}

func (a *asker) run() {
	defer close(a.ended)
	for {
		if a.err = exchange(a.c); a.err != nil {
			return
		}
		a.answers.Add(1)
		time.Sleep(20 * time.Millisecond)
	}
}

// asks waits for two more answers, of which the second was asked for since now.
func (a *asker) asks(ctx context.Context) error {
	want := a.answers.Load() + 2
	for began := time.Now(); a.answers.Load() < want; {
		select {
		case <-a.ended:
			return a.err
		default:
		}
		if time.Since(began) > 10*time.Second {
			return errors.New("it is silent")
		}
		if err := pause(ctx, 10*time.Millisecond); err != nil {
			return err
		}
	}
	return nil
}

func (a *asker) close() {
	_ = a.c.Close()
	<-a.ended
}
