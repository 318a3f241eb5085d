package main

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestResidentSaysOnceWhyItDoesNotRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		var tried atomic.Int32
		var free atomic.Bool
		r := newResident("the server", slog.New(slog.NewTextHandler(&log, nil)), func(a, b int) bool { return a == b },
			func(ctx context.Context, want int, _ func()) error {
				if tried.Add(1); want == 0 {
					return nil
				}
				if free.Load() {
					<-ctx.Done()
					return nil
				}
				return errors.New("the port is taken")
			})
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { r.run(ctx); close(ended) }()
		for want := 1; want <= 2; want++ { // another configuration, another chance to be told
			r.settle(want)
			time.Sleep(10*residentRetry + time.Second)
			synctest.Wait()
			if got := strings.Count(log.String(), "the port is taken"); got != want {
				t.Errorf("configuration %d: the log has it %d times:\n%s", want, got, &log)
			}
		}
		if n := tried.Load(); n < 20 {
			t.Errorf("tried %d times", n)
		}
		if got := r.problem(); got != "the server does not run: the port is taken" {
			t.Errorf("problem: %q", got)
		}
		free.Store(true)
		time.Sleep(residentRetry + 2*residentSteady)
		synctest.Wait()
		if got := r.problem(); got != "" {
			t.Errorf("problem of a server that runs: %q", got)
		}
		stop()
		<-ended
	})
}
