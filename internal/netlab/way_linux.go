package netlab

import (
	"errors"
	"math/rand/v2"
	"os"
	"sync"
	"time"
)

const (
	wayRoom     = 128 << 20 // bytes on their way: 10 Gb/s for a tenth of a second
	wayFrames   = 1 << 18   // and frames, for those that are short
	usualQueue  = 100 * time.Millisecond
	rateSlack   = 500 * time.Microsecond // by which a packet may be early: timers are no finer
	smallBuffer = 2048
)

// A way is one direction of a line.
type way struct {
	from, to *tap
	ended    chan struct{} // closed to end both tasks
	small    sync.Pool     // of *[]byte, smallBuffer long
	large    sync.Pool     // of *[]byte, frameRoom long

	mu      sync.Mutex
	quality Quality
	chance  *rand.Rand
	isCut   bool
	free    time.Time // when the last packet that was taken is through at the rate
	queue   []late    // in the order in which they came
	bytes   int       // in the queue
	sending bool      // one that was taken from the queue: none may overtake it
	counts  Traffic
	more    chan struct{} // has room for one: there is something in the queue
}

// A late is a frame on its way.
type late struct {
	due    time.Time
	buffer *[]byte
	length int
}

func newWay(from, to *tap) *way {
	return &way{
		from: from, to: to, ended: make(chan struct{}), more: make(chan struct{}, 1),
		small: sync.Pool{New: func() any { b := make([]byte, smallBuffer); return &b }},
		large: sync.Pool{New: func() any { b := make([]byte, frameRoom); return &b }},
	}
}

func (w *way) close() {
	close(w.ended)
	_ = w.from.Close()
}

func (w *way) set(q Quality, direction uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.quality, w.chance, w.free = q, rand.New(rand.NewPCG(q.Seed, direction)), time.Time{}
}

func (w *way) cut(cut bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.isCut = cut
	if cut {
		w.counts.Lost += uint64(len(w.queue))
		w.queue, w.bytes = nil, 0
	}
}

func (w *way) traffic() Traffic {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.counts
}

// receive takes what comes until the way ends. What is due at once goes on from here.
func (w *way) receive() {
	buf := make([]byte, frameRoom)
	for {
		n, err := w.from.Read(buf)
		if errors.Is(err, os.ErrClosed) {
			return
		}
		if err != nil || n < virtioSize {
			continue // the interface went down, or a frame of which there is no header: neither says anything of the next
		}
		if w.take(buf[:n], time.Now()) {
			_, _ = w.to.Write(buf[:n]) // an interface that is down, or whose queue is full, loses it
		}
	}
}

// take decides about a frame, and reports whether it is due at once.
func (w *way) take(frame []byte, now time.Time) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	q := w.quality
	if w.isCut || q.Loss > 0 && !local(frame) && w.chance.Float64() < q.Loss {
		w.counts.Lost++
		return false
	}
	due := now
	if q.Rate > 0 {
		wait := q.Queue
		if wait == 0 {
			wait = usualQueue
		}
		if w.free.Sub(now) > wait {
			w.counts.Full++
			return false
		}
		if w.free.Before(now) {
			w.free = now
		}
		w.free = w.free.Add(time.Duration(int64(onWire(frame)) * 8 * int64(time.Second) / q.Rate))
		if early := w.free.Add(-rateSlack); early.After(now) {
			due = early
		}
	}
	due = due.Add(q.Delay)
	if len(w.queue) == 0 && !w.sending && !due.After(now) {
		w.counts.Carried++
		return true
	}
	if w.bytes+len(frame) > wayRoom || len(w.queue) >= wayFrames {
		w.counts.Full++
		return false
	}
	f := late{due, w.buffer(len(frame)), len(frame)}
	copy(*f.buffer, frame)
	w.queue = append(w.queue, f)
	w.bytes += f.length
	select {
	case w.more <- struct{}{}:
	default:
	}
	return false
}

// deliver sends what is due until the way ends.
func (w *way) deliver() {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		f, wait := w.next(time.Now())
		switch {
		case f.buffer != nil:
			_, _ = w.to.Write((*f.buffer)[:f.length])
			w.reuse(f.buffer)
			continue
		case wait > 0:
			timer.Reset(wait)
			select {
			case <-timer.C:
			case <-w.ended:
				return
			}
		default:
			select {
			case <-w.more:
			case <-w.ended:
				return
			}
		}
	}
}

// next takes the first frame from the queue if it is due, or says how long it is not; 0: there is none.
func (w *way) next(now time.Time) (late, time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.sending = false
	if len(w.queue) == 0 {
		return late{}, 0
	}
	f := w.queue[0]
	if wait := f.due.Sub(now); wait > 0 {
		return late{}, wait
	}
	w.queue[0] = late{}
	w.queue = w.queue[1:]
	w.bytes -= f.length
	w.counts.Carried++
	w.sending = true
	return f, 0
}

func (w *way) buffer(n int) *[]byte {
	if n <= smallBuffer {
		return w.small.Get().(*[]byte)
	}
	return w.large.Get().(*[]byte)
}

func (w *way) reuse(b *[]byte) {
	if len(*b) == smallBuffer {
		w.small.Put(b)
	} else {
		w.large.Put(b)
	}
}
