package load

import (
	"errors"
	"fmt"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	stallTime = 10 * time.Millisecond  // after this long without an arrival, what is on its way counts as lost
	drainTime = 100 * time.Millisecond // what has not come this long after the end is lost
	maxBurst  = 65507                  // bytes that one system call may send in segments
)

// A sender keeps InFlight datagrams for each flow on their way to the sink, which counts them in the tally. Its counts are of
// datagrams, and wrap around with the tally's.
type sender struct {
	*tally
	flows  []int // sockets
	burst  int   // datagrams that a flow sends at a time
	window uint32
	send   func(fd int) syscall.Errno // a burst
	next   int                        // the flow whose turn it is
	sent   uint32                     // all told, less those that were written off
}

// oneWay measures what arrives of datagrams in one direction. All flows are one thread's work.
func (s *Spec) oneWay() (Result, error) {
	quiet(1)
	t, err := openTally(s.Tally)
	if err != nil {
		return Result{}, err
	}
	if s.InFlight < 1 {
		return Result{}, errors.New("spec of the load: it needs datagrams in flight")
	}
	burst := max(1, min(s.InFlight/2, maxBurst/s.Size))
	out := &sender{tally: t, burst: burst, window: uint32(s.InFlight * s.Workers)}
	for i := range s.Workers {
		fd, err := s.flow(i)
		if err != nil {
			return Result{}, err
		}
		out.flows = append(out.flows, fd)
	}
	out.prepare(s.Size)
	ended := make(chan Result)
	worker(func() { ended <- out.run(s) })
	return <-ended, nil
}

// flow opens the i-th socket.
func (s *Spec) flow(i int) (int, error) {
	to, err := sockaddr(s.Targets[i%len(s.Targets)])
	if err != nil {
		return -1, err
	}
	fd, errno := socket(unix.SOCK_DGRAM)
	if errno == 0 {
		errno = connect(fd, to)
	}
	return fd, check("udp socket", errno)
}

// prepare chooses how a burst is sent: as one buffer that the kernel cuts (UDP_SEGMENT, Linux 4.18), or else as a batch.
func (o *sender) prepare(size int) {
	segments := true
	for _, fd := range o.flows {
		segments = segments && unix.SetsockoptInt(fd, unix.SOL_UDP, unix.UDP_SEGMENT, size) == nil
	}
	if segments {
		buf := make([]byte, size*o.burst)
		o.send = func(fd int) syscall.Errno { _, errno := write(fd, buf); return errno }
		return
	}
	b := newBatch(o.burst, size, false)
	for i := range b.msgs {
		b.msgs[i].n = uint32(size)
	}
	o.send = func(fd int) syscall.Errno { return b.send(fd, o.burst) }
}

// run sends until the time is over and then waits for the last to arrive.
func (o *sender) run(s *Spec) Result {
	var (
		r        Result
		all      uint32 // sent, with those that were written off
		start    = o.datagrams.Load()
		bytes    = o.bytes.Load()
		from     = time.Now().Add(s.Warm)
		by       = from.Add(s.Time)
		began    time.Time // when counting did
		before   uint32    // what had arrived then
		received uint32
	)
	o.sent = start
	for {
		now := time.Now()
		received = o.datagrams.Load()
		if began.IsZero() && !now.Before(from) {
			began, before = now, received
		}
		if now.After(by) {
			r.Count, r.Seconds = uint64(received-before), now.Sub(began).Seconds()
			break
		}
		if o.full(received) {
			o.room(received)
			continue
		}
		if errno := o.send(o.flows[o.next]); errno != 0 {
			r.Error = check("udp send", errno).Error()
		}
		o.next = (o.next + 1) % len(o.flows)
		o.sent += uint32(o.burst)
		all += uint32(o.burst)
	}
	arrived := o.wait(start+all, drainTime) - start
	if lost := int32(all - arrived); lost > 0 {
		r.Errors = uint64(lost)
		r.Error = "datagrams did not arrive " + r.Error
	}
	if got := o.bytes.Load() - bytes; got != uint64(arrived)*uint64(s.Size) {
		r.Errors++
		r.Error = fmt.Sprintf("%d datagrams of %d bytes arrived with %d bytes", arrived, s.Size, got)
	}
	return r
}

// full reports whether no further burst may go on its way.
func (o *sender) full(received uint32) bool {
	return int32(o.sent-received)+int32(o.burst) > int32(o.window)
}

// room waits until half of the window is free, so that sender and relay do not take turns for every datagram. Once nothing has
// come for a while, nothing will, and what is lost gives up its place in the window.
func (o *sender) room(received uint32) {
	for enough := o.sent - o.window/2; ; {
		now := o.wait(enough, stallTime)
		switch {
		case int32(now-enough) >= 0:
			return
		case now == received:
			o.sent = now
			return
		}
		received = now
	}
}
