package tunneltest

import (
	"io"
	"os"
	"sync"
	"time"
)

// A pipe is one direction of a lane.
type pipe struct {
	wire *medium

	mu       sync.Mutex
	changed  *sync.Cond
	buf      []byte
	most     int
	ended    bool // by the writer
	err      error
	deadline [2]time.Time // of reads, of writes
	timers   [2]*time.Timer
}

func newPipe(m *medium, most int) *pipe {
	p := &pipe{wire: m, most: most}
	p.changed = sync.NewCond(&p.mu)
	return p
}

func (p *pipe) late(i int) bool {
	d := p.deadline[i]
	return !d.IsZero() && !time.Now().Before(d)
}

func (p *pipe) read(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for {
		switch {
		case p.err != nil:
			return 0, p.err
		case p.late(0):
			return 0, os.ErrDeadlineExceeded
		case len(p.buf) > 0 && !p.wire.isStalled():
			n := copy(b, p.buf)
			p.buf = p.buf[:copy(p.buf, p.buf[n:])]
			p.changed.Broadcast()
			return n, nil
		case p.ended && len(p.buf) == 0:
			return 0, io.EOF
		}
		p.changed.Wait()
	}
}

// await waits until read would not.
func (p *pipe) await() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.err == nil && !p.late(0) && (len(p.buf) == 0 && !p.ended || len(p.buf) > 0 && p.wire.isStalled()) {
		p.changed.Wait()
	}
}

func (p *pipe) write(b []byte) (int, error) {
	done := 0
	for done < len(b) {
		n, err := p.writeSome(b[done:])
		if done += n; err != nil {
			return done, err
		}
	}
	return done, nil
}

func (p *pipe) writeSome(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for {
		switch {
		case p.err != nil:
			return 0, p.err
		case p.ended:
			return 0, io.ErrClosedPipe
		case p.late(1):
			return 0, os.ErrDeadlineExceeded
		}
		if room := p.most - len(p.buf); room > 0 {
			n := min(room, len(b))
			passed := p.wire.passes(n) // the rest is lost, and the link with it
			p.buf = append(p.buf, b[:passed]...)
			p.changed.Broadcast()
			return n, nil
		}
		p.changed.Wait()
	}
}

func (p *pipe) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ended = true
	p.changed.Broadcast()
}

func (p *pipe) fail(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.err == nil {
		p.err = err
	}
	for _, t := range p.timers {
		if t != nil {
			t.Stop()
		}
	}
	p.changed.Broadcast()
}

func (p *pipe) set(i int, t time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.deadline[i] = t
	if p.timers[i] != nil {
		p.timers[i].Stop()
		p.timers[i] = nil
	}
	if !t.IsZero() && time.Until(t) > 0 {
		p.timers[i] = time.AfterFunc(time.Until(t), p.changed.Broadcast)
	}
	p.changed.Broadcast()
}
