package sshwire

import (
	"io"
	"net"
	"os"
	"sync"
	"time"

	"github.com/fairlead-net/fairlead/internal/deadline"
)

const (
	streamOut   = 256 << 10 // bytes that Write leaves to the loop
	streamShare = 8         // packets that a stream sends in a turn
	closeLinger = int64(10 * time.Second)
)

// A stream is the end of a channel that goroutines read and write.
type stream struct {
	ch     *Channel
	timer  timer // of the loop: how long Close waits for the peer to take what was written
	closed chan struct{}

	writeLock             sync.Mutex // one writer at a time
	readLimit, writeLimit deadline.Deadline
	writable              chan struct{} // holds one: something has changed

	mu       sync.Mutex
	in       inlet
	stderr   inlet
	wants    bool  // somebody reads stderr
	credit   int   // bytes that were read, and that the loop does not know of yet
	inEnd    error // what Read says once in is empty
	out      backlog
	outErr   backlog // for the peer's stderr
	outEnd   error   // what Write says
	outEOF   bool    // CloseWrite was called
	outClose bool    // Close was called
	called   bool    // the loop knows that there is something to send
}

// An inlet is one stream of bytes from the peer.
type inlet struct {
	lock     sync.Mutex    // one reader at a time
	readable chan struct{} // holds one: something has changed
	backlog                // guarded by the stream's mutex
}

// A backlog is bytes that wait.
type backlog struct {
	b   []byte
	off int
}

func (q *backlog) len() int { return len(q.b) - q.off }

func (q *backlog) add(p []byte) {
	if q.off > 0 && (q.off == len(q.b) || q.off > len(q.b)/2) {
		q.b = q.b[:copy(q.b, q.b[q.off:])]
		q.off = 0
	}
	q.b = append(q.b, p...)
}

func (q *backlog) skip(n int) {
	if q.off += n; q.off == len(q.b) {
		if q.off = 0; cap(q.b) > 64<<10 {
			q.b = nil
		} else {
			q.b = q.b[:0]
		}
	}
}

func (q *backlog) bytes() []byte { return q.b[q.off:] }

func newStream(ch *Channel) *stream {
	return &stream{
		ch: ch, closed: make(chan struct{}), readLimit: deadline.New(), writeLimit: deadline.New(),
		in: inlet{readable: make(chan struct{}, 1)}, stderr: inlet{readable: make(chan struct{}, 1)},
		writable: make(chan struct{}, 1),
	}
}

func wake(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// Read is io.EOF only after the peer has ended its direction, or closed the channel.
func (s *stream) Read(p []byte) (int, error) { return s.read(p, &s.in) }

func (s *stream) read(p []byte, from *inlet) (int, error) {
	from.lock.Lock()
	defer from.lock.Unlock()
	for {
		limit := s.readLimit.Wait()
		select {
		case <-s.closed:
			return 0, net.ErrClosed
		case <-limit:
			return 0, os.ErrDeadlineExceeded
		default:
		}
		s.mu.Lock()
		if from.len() > 0 || len(p) == 0 {
			n := copy(p, from.bytes())
			from.skip(n)
			s.credit += n
			credit := 0
			if s.credit >= windowLeast/2 || from.len() == 0 && s.credit >= windowLeast/8 {
				credit, s.credit = s.credit, 0
			}
			s.mu.Unlock()
			if credit > 0 {
				s.ch.conn.post(func() { s.ch.consumed(credit) })
			}
			return n, nil
		}
		end := s.inEnd
		s.mu.Unlock()
		if end != nil {
			return 0, end
		}
		select {
		case <-from.readable:
		case <-limit:
			if s.readLimit.Wait() == limit { // and was not moved
				return 0, os.ErrDeadlineExceeded
			}
		case <-s.closed:
		}
	}
}

// Write returns when the loop has taken the bytes, as that of a socket does.
func (s *stream) Write(p []byte) (int, error) { return s.write(p, &s.out) }

// WriteStderr sends extended data, as the standard error of a command (RFC 4254, section 5.2).
func (s *stream) WriteStderr(p []byte) (int, error) { return s.write(p, &s.outErr) }

func (s *stream) write(p []byte, to *backlog) (int, error) {
	s.writeLock.Lock()
	defer s.writeLock.Unlock()
	total := 0
	for {
		limit := s.writeLimit.Wait()
		select {
		case <-s.closed:
			return total, net.ErrClosed
		case <-limit:
			return total, os.ErrDeadlineExceeded
		default:
		}
		s.mu.Lock()
		if err := s.outEnd; err != nil {
			s.mu.Unlock()
			return total, err
		}
		n := min(len(p), streamOut-to.len())
		to.add(p[:n])
		call := n > 0 && !s.called
		s.called = s.called || call
		s.mu.Unlock()
		if call {
			s.call()
		}
		p = p[n:]
		if total += n; len(p) == 0 {
			return total, nil
		}
		select {
		case <-s.writable:
		case <-limit:
			if s.writeLimit.Wait() == limit {
				return total, os.ErrDeadlineExceeded
			}
		case <-s.closed:
		}
	}
}

// call has the loop look at what there is to send.
func (s *stream) call() {
	s.ch.conn.post(func() {
		if s.ch.side == side(s) {
			s.fill()
		}
	})
}

// CloseWrite ends our direction after what was written.
func (s *stream) CloseWrite() error {
	s.mu.Lock()
	if s.outEnd != nil {
		defer s.mu.Unlock()
		return s.outEnd
	}
	s.outEnd = io.ErrClosedPipe
	s.mu.Unlock()
	s.ch.conn.post(func() { s.endWrites(false) })
	return nil
}

// Close ends the channel after what was written. It does not wait.
func (s *stream) Close() error {
	s.mu.Lock()
	if s.outEnd == net.ErrClosed {
		s.mu.Unlock()
		return net.ErrClosed
	}
	s.outEnd = net.ErrClosed
	s.in.backlog, s.stderr.backlog = backlog{}, backlog{}
	close(s.closed)
	s.mu.Unlock()
	ch := s.ch
	ch.conn.post(func() {
		if ch.side != side(s) {
			return
		}
		ch.conn.loop.timers.set(&s.timer, s, ch.conn.loop.now+closeLinger)
		s.endWrites(true)
	})
	return nil
}

// endWrites ends our direction after what was written, and the channel as well if it is closing. It comes to the loop after
// everything that was asked for before.
func (s *stream) endWrites(closing bool) {
	if s.ch.side != side(s) {
		return
	}
	s.mu.Lock()
	s.outEOF, s.outClose = true, s.outClose || closing
	s.mu.Unlock()
	s.fill()
}

func (s *stream) LocalAddr() net.Addr  { return s.ch.conn.login.local }
func (s *stream) RemoteAddr() net.Addr { return s.ch.conn.login.remote }

func (s *stream) SetDeadline(t time.Time) error {
	s.readLimit.Set(t)
	s.writeLimit.Set(t)
	return nil
}

func (s *stream) SetReadDeadline(t time.Time) error {
	s.readLimit.Set(t)
	return nil
}

func (s *stream) SetWriteDeadline(t time.Time) error {
	s.writeLimit.Set(t)
	return nil
}

// Stderr is what the peer says as extended data. It is dropped until this is called.
func (s *stream) Stderr() io.Reader {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.wants = true
	return stderrReader{s}
}

type stderrReader struct{ s *stream }

func (r stderrReader) Read(p []byte) (int, error) { return r.s.read(p, &r.s.stderr) }

// What follows is called in the loop.

func (s *stream) take(parts [][]byte, size int) {
	s.mu.Lock()
	dropped := s.outEnd == net.ErrClosed
	if !dropped {
		for _, p := range parts {
			s.in.add(p)
		}
	}
	s.mu.Unlock()
	if dropped {
		s.ch.consumed(size)
		return
	}
	wake(s.in.readable)
}

func (s *stream) takeStderr(data []byte) {
	s.mu.Lock()
	wants := s.wants && s.outEnd != net.ErrClosed
	if wants {
		s.stderr.add(data)
	}
	s.mu.Unlock()
	if !wants {
		s.ch.consumed(len(data))
		return
	}
	wake(s.stderr.readable)
}

func (s *stream) eof() { s.endReads(io.EOF) }

func (s *stream) endReads(err error) {
	s.mu.Lock()
	if s.inEnd == nil {
		s.inEnd = err
	}
	s.mu.Unlock()
	wake(s.in.readable)
	wake(s.stderr.readable)
}

func (s *stream) gone(err error) {
	if err == nil {
		s.endReads(io.EOF)
		err = errChannelClosed
	}
	s.endReads(err)
	s.mu.Lock()
	if s.outEnd == nil {
		s.outEnd = err
	}
	s.out, s.outErr, s.called = backlog{}, backlog{}, true
	s.mu.Unlock()
	wake(s.writable)
	s.ch.conn.loop.timers.clear(&s.timer)
}

func (s *stream) fill() {
	ch := s.ch
	c := ch.conn
	if !ch.open || ch.sentClose || c.ended {
		return
	}
	if !c.mayBulk() {
		c.enqueue(ch)
		return
	}
	s.mu.Lock()
	for range streamShare {
		from, message := &s.out, byte(msgChannelData)
		if s.outErr.len() > 0 {
			from, message = &s.outErr, msgChannelStderr
		}
		n := int(min(int64(from.len()), int64(ch.packet), ch.room))
		if n == 0 {
			break
		}
		b := appendU32(c.begin(message), ch.remote)
		if message == msgChannelStderr {
			b = appendU32(b, stderrKind)
		}
		c.end(appendString(b, from.bytes()[:n]))
		from.skip(n)
		ch.room -= int64(n)
	}
	left := s.out.len() + s.outErr.len()
	s.called = left > 0
	eof, closing := s.outEOF && left == 0, s.outClose && left == 0
	s.mu.Unlock()
	wake(s.writable)
	c.mark()
	if left > 0 && ch.room > 0 {
		c.enqueue(ch)
	}
	if eof && !ch.sentEOF {
		ch.sendEOF()
	}
	if closing {
		c.loop.timers.clear(&s.timer)
		ch.sendClose()
	}
}

// expire closes the channel whether or not everything was taken.
func (s *stream) expire() { s.ch.sendClose() }
