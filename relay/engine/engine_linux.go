package engine

import (
	"sync"
	"sync/atomic"

	"github.com/fairlead-net/fairlead/internal/processors"
)

// maxLoops bounds the loops: a relay on a large machine shares it with what it relays to.
const maxLoops = 32

// An Engine is a loop per processor.
type Engine struct {
	loops []*Loop
	pipes atomic.Int32
	next  atomic.Uint32
	wg    sync.WaitGroup
}

// New starts an engine; Close ends it.
func New() (*Engine, error) {
	e := &Engine{}
	for range min(processors.Count(), maxLoops) {
		l, err := newLoop(pipes{open: &e.pipes})
		if err != nil {
			for _, l := range e.loops {
				l.close()
			}
			return nil, err
		}
		e.loops = append(e.loops, l)
	}
	processors.Extra(len(e.loops)) // see lightSleep
	for _, l := range e.loops {
		e.wg.Go(l.run)
	}
	return e, nil
}

// Close ends the loops. The listeners have been closed and the streams have ended, or are left as they are: then nothing
// touches them any more, and they can be frozen.
func (e *Engine) Close() {
	for _, l := range e.loops {
		l.Post(func() { l.ending.Store(true) })
	}
	e.wg.Wait()
	processors.Extra(-len(e.loops))
	for _, l := range e.loops {
		l.close()
	}
}

// Start begins a stream that no Listener took in.
func (e *Engine) Start(s *Stream) {
	l := s.loop.Load()
	if l == nil {
		l = e.Loop()
		s.loop.Store(l)
	}
	l.Post(func() { s.begin(l) })
}

// lighter is l, or another loop that has so much less to do that it pays to wake it. The kernel wakes whichever loop waits
// for clients, often the same, and connections that live for long would stay together there.
func (e *Engine) lighter(l *Loop) *Loop {
	mine := l.load.Load()
	least, bar := l, mine-mine/8-2
	for _, other := range e.loops {
		if n := other.load.Load(); n < bar {
			least, bar = other, n
		}
	}
	return least
}

// Loop is the loops in turn.
func (e *Engine) Loop() *Loop { return e.loops[int(e.next.Add(1))%len(e.loops)] }
