package main

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// residentRetry is how long to wait before a server that could not start is tried again.
const residentRetry = 5 * time.Second

// residentSteady is how long a server has to run to be one that does.
const residentSteady = time.Second

// A resident keeps a server running that the settings describe, whatever they are at the moment.
type resident[T any] struct {
	what  string // for the log: "the SSH server"
	serve serveFunc[T]
	equal func(a, b T) bool
	log   *slog.Logger
	tried chan struct{} // closed once what was wanted first is there, or cannot be had
	once  sync.Once

	changed chan struct{} // capacity 1
	mu      sync.Mutex
	want    T
	wrong   string // why it does not run; "" when it does
}

// A serveFunc serves what is wanted until ctx ends, or returns at once where that is nothing. It calls opened when clients can come.
type serveFunc[T any] func(ctx context.Context, want T, opened func()) error

func newResident[T any](what string, log *slog.Logger, equal func(a, b T) bool, serve serveFunc[T]) *resident[T] {
	return &resident[T]{what: what, serve: serve, equal: equal, log: log, tried: make(chan struct{}), changed: make(chan struct{}, 1)}
}

func (r *resident[T]) hasTried() { r.once.Do(func() { close(r.tried) }) }

// opened is closed when what the settings want at the start is served, or has failed once.
func (r *resident[T]) opened() <-chan struct{} { return r.tried }

// settle makes want what is served. It does not wait.
func (r *resident[T]) settle(want T) {
	r.mu.Lock()
	same := r.equal(r.want, want)
	r.want = want
	r.mu.Unlock()
	if same {
		return
	}
	select {
	case r.changed <- struct{}{}:
	default:
	}
}

// run serves until ctx ends. Another configuration ends the server that runs, with its clients.
func (r *resident[T]) run(ctx context.Context) {
	for ctx.Err() == nil {
		select {
		case <-r.changed: // what is read now is what that was about
		default:
		}
		r.mu.Lock()
		want := r.want
		r.mu.Unlock()
		serving, stop := context.WithCancel(ctx)
		ended := make(chan error, 1)
		go func() { ended <- r.serve(serving, want, r.hasTried) }()
		var retry <-chan time.Time
		steady := time.After(residentSteady)
		for again := false; !again; {
			select {
			case err := <-ended:
				if ended = nil; err != nil && ctx.Err() == nil {
					if r.goes(err.Error()) {
						r.log.Error("a server of the settings does not run", "server", r.what, keyError, err)
					}
					retry = time.After(residentRetry)
				}
				r.hasTried() // after it is known why it does not run
				again = ctx.Err() != nil
			case <-steady:
				if ended != nil {
					r.goes("")
				}
			case <-retry:
				again = true
			case <-r.changed:
				again = true
				r.goes("")
			case <-ctx.Done():
				again = true
			}
		}
		stop()
		if ended != nil {
			<-ended //nolint:errcheck // why it ended does not matter any more
		}
	}
}

// goes keeps why it does not run, and reports whether that is new: who is tried again and again says it once.
func (r *resident[T]) goes(wrong string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	before := r.wrong
	r.wrong = wrong
	return wrong != before
}

// problem is why the server does not run, or "".
func (r *resident[T]) problem() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.wrong == "" {
		return ""
	}
	return r.what + " does not run: " + r.wrong
}
