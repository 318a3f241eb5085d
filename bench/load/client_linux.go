package load

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// grace is how long after the end a stream may still take for what it has begun; one that takes longer has lost its peer.
const grace = 3 * time.Second

// Run reads a Spec from standard input, makes the measurement and writes the Result to standard output. The process is good
// for nothing else, and ends with it.
func Run() error {
	var s Spec
	in := json.NewDecoder(os.Stdin)
	if err := in.Decode(&s); err != nil {
		return fmt.Errorf("spec of the load: %w", err)
	}
	if len(s.Targets)+len(s.Groups) == 0 || s.Workers < 1 || s.Size < 1 {
		return errors.New("spec of the load: it needs targets, workers and a size")
	}
	if s.Socks != "" && (len(s.Groups) > 0 || s.Kind == UDP || s.Kind == OneWay) {
		return errors.New("spec of the load: a SOCKS proxy is for connections without groups")
	}
	if len(s.Groups) > 0 && (s.Turn <= 0 || s.Kind != Connect && s.Kind != Close) {
		return errors.New("spec of the load: groups are for connections, and take turns")
	}
	out := json.NewEncoder(os.Stdout)
	if s.Kind == Hold {
		r, held, err := s.hold()
		if err != nil {
			return err
		}
		if err := out.Encode(r); err != nil {
			return err
		}
		_, err = io.Copy(io.Discard, io.MultiReader(in.Buffered(), os.Stdin))
		runtime.KeepAlive(held) // an os.File that nobody holds is closed
		return err
	}
	measure := s.measure
	if s.Kind == OneWay {
		measure = s.oneWay
	}
	r, err := measure()
	if err != nil {
		return err
	}
	return out.Encode(r)
}

// A client is one thread and the connections that it works on. Its counts are its own until it has ended, or is given up.
type client struct {
	spec     *Spec
	to       []*unix.RawSockaddrInet4 // of its connections
	ask      [][]byte                 // of each, what is asked of the proxy that is at to; nil: there is none
	from, by time.Time                // what ends between them counts
	times    histogram
	count    uint64
	all      uint64 // of Bulk and Fetch: bytes, of before and after as well
	errors   uint64
	err      error
	groups   []group
	done     atomic.Bool
}

func (s *Spec) measure() (Result, error) {
	work := map[Kind]func(*client) error{
		Connect: (*client).exchanges, Close: (*client).exchanges, Request: (*client).exchanges,
		Bulk: (*client).bulk, Fetch: (*client).fetch, UDP: (*client).datagrams,
	}[s.Kind]
	if work == nil {
		return Result{}, fmt.Errorf("spec of the load: no kind %q", s.Kind)
	}
	n := min(threads(), s.Workers)
	if s.Kind == Bulk || s.Kind == Fetch {
		n = s.Workers
	}
	quiet(n)
	from := time.Now().Add(s.Warm)
	clients := make([]*client, n)
	for i := range clients {
		clients[i] = &client{spec: s, from: from, by: from.Add(s.Time)}
	}
	for i, c := range clients {
		for j := i; j < s.Workers && len(s.Targets) > 0; j += n {
			to, ask, err := s.way(s.Targets[j%len(s.Targets)])
			if err != nil {
				return Result{}, err
			}
			c.to = append(c.to, to)
			if ask != nil {
				c.ask = append(c.ask, ask)
			}
		}
		if err := c.prepareGroups(i, n); err != nil {
			return Result{}, err
		}
	}
	ended := make(chan struct{}, n)
	for _, c := range clients {
		worker(func() {
			if err := work(c); err != nil {
				c.errors++
				c.err = err
			}
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
	r := sum(clients, s.Time)
	r.Groups = s.sumGroups(clients)
	return r, nil
}

func sum(clients []*client, in time.Duration) Result {
	r := Result{Seconds: in.Seconds()}
	var all histogram
	for _, c := range clients {
		if !c.done.Load() {
			r.Errors++
			r.Error = "a stream waits and is not taken"
			continue
		}
		r.Count += c.count
		r.All += c.all
		r.Errors += c.errors
		if c.err != nil {
			r.Error = c.err.Error()
		}
		all.merge(&c.times)
	}
	r.P50, r.P99 = all.quantile(0.5), all.quantile(0.99)
	return r
}

// finished counts an operation, or bytes, that ended now and began then, if now is within the time that counts.
func (c *client) finished(now, began time.Time, count int) {
	if now.Before(c.from) || now.After(c.by) {
		return
	}
	c.count += uint64(count)
	if !began.IsZero() {
		c.times.add(now.Sub(began))
	}
}

// failed counts an operation that failed.
func (c *client) failed(err error) {
	if now := time.Now(); now.After(c.from) && now.Before(c.by) {
		c.errors++
	}
	c.err = err
}

// dial connects, and goes on through the proxy if ask says to where.
func dial(to *unix.RawSockaddrInet4, ask []byte) (int, error) {
	fd, errno := socket(unix.SOCK_STREAM)
	if errno != 0 {
		return -1, check("socket", errno)
	}
	if errno := connect(fd, to); errno != 0 {
		reset(fd)
		return -1, check("connect", errno)
	}
	if ask != nil {
		if _, err := new(handshake).next(fd, ask); err != nil {
			reset(fd)
			return -1, err
		}
	}
	return fd, nil
}

// bulk keeps one stream full.
func (c *client) bulk() error { return c.stream("write", write) }

// fetch keeps one stream empty.
func (c *client) fetch() error { return c.stream("read", discard) }

// stream moves bytes one way as long as it may.
func (c *client) stream(op string, move func(fd int, b []byte) (int, syscall.Errno)) error {
	var ask []byte
	if c.ask != nil {
		ask = c.ask[0]
	}
	buf := make([]byte, c.spec.Size)
	fd, err := dial(c.to[0], ask)
	if err != nil {
		return err
	}
	defer reset(fd)
	for {
		n, errno := move(fd, buf)
		switch {
		case errno != 0:
			return check(op, errno)
		case n == 0:
			return errors.New(op + ": closed before the time")
		}
		c.all += uint64(n)
		now := time.Now()
		if now.After(c.by) {
			return nil
		}
		c.finished(now, time.Time{}, n)
	}
}

// hold opens the connections and has an answer over each once.
func (s *Spec) hold() (r Result, held []io.Closer, err error) {
	buf := make([]byte, s.Size)
	began := time.Now()
	for i := range s.Workers {
		to, ask, err := s.way(s.Targets[i%len(s.Targets)])
		if err != nil {
			return r, held, err
		}
		fd, err := dial(to, ask)
		if err != nil {
			return r, held, fmt.Errorf("connection %d: %w", i+1, err)
		}
		f := os.NewFile(uintptr(fd), "held")
		held = append(held, f)
		if _, err = f.Write(buf); err == nil {
			_, err = io.ReadFull(f, buf)
		}
		if err != nil {
			return r, held, fmt.Errorf("connection %d: %w", i+1, err)
		}
		r.Count++
	}
	r.Seconds = time.Since(began).Seconds()
	return r, held, nil
}
