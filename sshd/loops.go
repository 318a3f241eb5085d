package sshd

import (
	"context"
	"sync"

	"github.com/fairlead-net/fairlead/internal/processors"
	"github.com/fairlead-net/fairlead/internal/sshwire"
)

// maxLoops is how many loops there are at most: one for each processor, but a loop is a thread and half a megabyte.
const maxLoops = 16

// loops are what carries the clients of sshwire. They start as clients come.
type loops struct {
	mu      sync.Mutex
	list    []*loop
	stop    context.CancelFunc
	running sync.WaitGroup
}

// A loop is one of them, and how many clients it has.
type loop struct {
	*sshwire.Loop
	clients int
}

// join returns the loop for one more client, until it leaves. The loops live until end.
func (l *loops) join(ctx context.Context) (*sshwire.Loop, func(), error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var best *loop
	for _, one := range l.list {
		if best == nil || one.clients < best.clients {
			best = one
		}
	}
	if best == nil || best.clients > 0 && len(l.list) < min(maxLoops, processors.Count()) {
		fresh, err := sshwire.NewLoop()
		if err == nil {
			best = l.start(ctx, fresh)
		} else if best == nil {
			return nil, nil, err
		}
	}
	best.clients++
	return best.Loop, sync.OnceFunc(func() { l.leave(best) }), nil
}

func (l *loops) start(ctx context.Context, fresh *sshwire.Loop) *loop {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	before := l.stop
	l.stop = func() {
		cancel()
		if before != nil {
			before()
		}
	}
	l.running.Go(func() { _ = fresh.Run(ctx) }) // says that it was stopped
	one := &loop{Loop: fresh}
	l.list = append(l.list, one)
	return one
}

func (l *loops) leave(one *loop) {
	l.mu.Lock()
	defer l.mu.Unlock()
	one.clients--
}

// end ends the loops, which have no clients any more.
func (l *loops) end() {
	l.mu.Lock()
	if l.stop != nil {
		l.stop()
	}
	l.list, l.stop = nil, nil
	l.mu.Unlock()
	l.running.Wait()
}
