package load

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// grace is how long after the end a worker may still take for what it has begun; one that takes longer has lost its peer.
const grace = 3 * time.Second

// Run reads a Spec from standard input, makes the measurement and writes the Result to standard output. The process is good
// for nothing else, and ends with it.
func Run() error {
	var s Spec
	in := json.NewDecoder(os.Stdin)
	if err := in.Decode(&s); err != nil {
		return fmt.Errorf("spec of the load: %w", err)
	}
	if len(s.Targets) == 0 || s.Workers < 1 || s.Size < 1 {
		return errors.New("spec of the load: it needs targets, workers and a size")
	}
	out := json.NewEncoder(os.Stdout)
	if s.Kind == Hold {
		r, err := s.hold()
		if err != nil {
			return err
		}
		if err := out.Encode(r); err != nil {
			return err
		}
		_, err = io.Copy(io.Discard, io.MultiReader(in.Buffered(), os.Stdin))
		return err
	}
	r, err := s.measure()
	if err != nil {
		return err
	}
	return out.Encode(r)
}

// A client is one worker. Its counts are its own until it has ended, or is given up.
type client struct {
	spec     *Spec
	to       *unix.RawSockaddrInet4
	from, by time.Time // what ends between them counts
	times    histogram
	count    uint64
	errors   uint64
	err      error
	done     atomic.Bool
}

func (s *Spec) measure() (Result, error) {
	quiet(s.Workers)
	work := map[Kind]func(*client){
		Connect: (*client).connects, Request: (*client).requests, Bulk: (*client).bulk, UDP: (*client).datagrams,
	}[s.Kind]
	if work == nil {
		return Result{}, fmt.Errorf("spec of the load: no kind %q", s.Kind)
	}
	clients := make([]*client, s.Workers)
	from := time.Now().Add(s.Warm)
	ended := make(chan struct{}, s.Workers)
	for i := range clients {
		to, err := sockaddr(s.Targets[i%len(s.Targets)])
		if err != nil {
			return Result{}, err
		}
		clients[i] = &client{spec: s, to: to, from: from, by: from.Add(s.Time)}
	}
	for _, c := range clients {
		worker(func() {
			work(c)
			c.done.Store(true)
			ended <- struct{}{}
		})
	}
	limit := time.After(s.Warm + s.Time + grace)
	for range clients {
		select {
		case <-ended:
		case <-limit:
		}
	}
	return sum(clients, s.Time), nil
}

func sum(clients []*client, in time.Duration) Result {
	r := Result{Seconds: in.Seconds()}
	var all histogram
	for _, c := range clients {
		if !c.done.Load() {
			r.Errors++
			r.Error = "a worker waits for an answer that does not come"
			continue
		}
		r.Count += c.count
		r.Errors += c.errors
		if c.err != nil {
			r.Error = c.err.Error()
		}
		all.merge(&c.times)
	}
	r.P50, r.P99 = all.quantile(0.5), all.quantile(0.99)
	return r
}

// failed counts an error and keeps a broken target from becoming a busy loop.
func (c *client) failed(err error) {
	if now := time.Now(); now.After(c.from) && now.Before(c.by) {
		c.errors++
	}
	c.err = err
	time.Sleep(time.Millisecond)
}

// timed counts an operation that began then, and reports whether there is time for another.
func (c *client) timed(began time.Time, count int) bool {
	now := time.Now()
	if now.After(c.by) {
		return false
	}
	if now.After(c.from) {
		c.count += uint64(count)
		if !began.IsZero() {
			c.times.add(now.Sub(began))
		}
	}
	return true
}

func (c *client) open() (int, error) {
	fd, errno := socket(unix.SOCK_STREAM)
	if errno != 0 {
		return -1, check("socket", errno)
	}
	if errno := connect(fd, c.to); errno != 0 {
		reset(fd)
		return -1, check("connect", errno)
	}
	return fd, nil
}

func (c *client) connects() {
	buf := make([]byte, c.spec.Size)
	for ok := true; ok; {
		began := time.Now()
		fd, err := c.open()
		if err == nil {
			err = exchange(fd, buf)
			reset(fd)
		}
		if err != nil {
			c.failed(err)
			ok = time.Now().Before(c.by)
		} else {
			ok = c.timed(began, 1)
		}
	}
}

func (c *client) requests() {
	buf := make([]byte, c.spec.Size)
	fd, err := c.open()
	if err != nil {
		c.errors, c.err = 1, err
		return
	}
	defer reset(fd)
	for ok := true; ok; {
		began := time.Now()
		if err := exchange(fd, buf); err != nil {
			c.errors, c.err = 1, err
			return
		}
		ok = c.timed(began, 1)
	}
}

func (c *client) bulk() {
	buf := make([]byte, c.spec.Size)
	fd, err := c.open()
	if err != nil {
		c.errors, c.err = 1, err
		return
	}
	defer reset(fd)
	for ok := true; ok; {
		n, errno := write(fd, buf)
		if errno != 0 {
			c.errors, c.err = 1, check("write", errno)
			return
		}
		ok = c.timed(time.Time{}, n)
	}
}

// hold opens the connections and has an answer over each once.
func (s *Spec) hold() (Result, error) {
	buf := make([]byte, s.Size)
	var r Result
	began := time.Now()
	for i := range s.Workers {
		to, err := sockaddr(s.Targets[i%len(s.Targets)])
		if err != nil {
			return r, err
		}
		fd, err := (&client{to: to}).open()
		if err != nil {
			return r, fmt.Errorf("connection %d: %w", i+1, err)
		}
		if err := exchange(fd, buf); err != nil {
			return r, fmt.Errorf("connection %d: %w", i+1, err)
		}
		r.Count++
	}
	r.Seconds = time.Since(began).Seconds()
	return r, nil
}
