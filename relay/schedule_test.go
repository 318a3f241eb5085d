package relay

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// A schedule is a list of steps for each end of a session. It is drawn as one sequence in which each step is possible when
// its turn comes: nobody reads what has not been written before, and never are more bytes on the way than the sockets hold.
// Hence the two lists cannot block each other in whatever order they are run, and every wait that does not end is a fault.
type schedule struct {
	seed  uint64
	steps [2][]step // of the client and of the target
	model [2]party
}

type step struct {
	kind stepKind
	n    int // bytes, or how often to yield
}

type stepKind uint8

const (
	stepWrite stepKind = iota
	stepRead
	stepYield
	stepFIN
	stepReset
	stepClose
)

func (s step) String() string {
	name := [...]string{"write", "read", "yield", "FIN", "reset", "close"}[s.kind]
	if s.kind <= stepYield {
		name += " " + strconv.Itoa(s.n)
	}
	return name
}

// A party is what one end will have done when its steps are through. One that has not gone by then ends its direction, and
// reads to the end.
type party struct {
	written, read int
	fin           bool
	reset, closed bool
}

func (p party) gone() bool { return p.reset || p.closed }

// onTheWay is the most that is written and not read: less than the smallest receive buffer.
const onTheWay = 48 << 10

func newSchedule(seed uint64) *schedule {
	s := &schedule{seed: seed}
	random := rand.New(rand.NewPCG(seed, 0))
	for range 1 + random.IntN(30) {
		me := random.IntN(2)
		if mine := &s.model[me]; !mine.gone() {
			if st, ok := drawStep(random, mine, &s.model[1-me]); ok {
				s.steps[me] = append(s.steps[me], st)
			}
		}
	}
	return s
}

// drawStep draws what mine does next, or finds that it cannot.
func drawStep(random *rand.Rand, mine, other *party) (step, bool) {
	switch k := random.IntN(100); {
	case k < 40:
		n := min(drawSize(random), onTheWay-(mine.written-other.read))
		if mine.fin || n <= 0 {
			return step{}, false
		}
		mine.written += n
		return step{stepWrite, n}, true
	case k < 78:
		there := other.written - mine.read
		if there == 0 {
			return step{}, false
		}
		n := 1 + random.IntN(there)
		mine.read += n
		return step{stepRead, n}, true
	case k < 88:
		return step{stepYield, 1 + random.IntN(20)}, true
	case k < 94:
		if mine.fin {
			return step{}, false
		}
		mine.fin = true
		return step{kind: stepFIN}, true
	case k < 97:
		mine.reset = true
		return step{kind: stepReset}, true
	default:
		mine.closed = true
		return step{kind: stepClose}, true
	}
}

func drawSize(random *rand.Rand) int {
	switch random.IntN(4) {
	case 0:
		return 1
	case 1:
		return 1 + random.IntN(100)
	case 2:
		return 1 + random.IntN(5000)
	default:
		return 1 + random.IntN(onTheWay)
	}
}

// orderly reports whether i leaves the other end a stream that ends as it should: it does not reset, and it closes, if it
// does, only after having read all, so that its system does not reset for it (RFC 1122, 4.2.2.13).
func (s *schedule) orderly(i int) bool {
	me, other := s.model[i], s.model[1-i]
	return !me.reset && (!me.closed || me.read == other.written)
}

func (s *schedule) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "schedule %d", s.seed)
	for i, name := range []string{"client", "target"} {
		fmt.Fprintf(&b, "\n%s:", name)
		for _, st := range s.steps[i] {
			fmt.Fprintf(&b, " %v,", st)
		}
		if !s.model[i].gone() {
			b.WriteString(" to the end")
		}
	}
	return b.String()
}

// An actor plays one end of a schedule and compares what it meets with what TCP allows.
type actor struct {
	*schedule
	me      int
	conn    net.Conn
	peer    net.Conn // only its kind is looked at
	out     io.Reader
	in      checker
	written int64
	lost    bool // a write has failed, as it may when the peer is not orderly
}

func (s *schedule) actor(me int, conn, peer net.Conn) *actor {
	seed := 2 * s.seed
	return &actor{
		schedule: s, me: me, conn: conn, peer: peer,
		out: payload(seed + uint64(me)), in: checker{want: payload(seed + uint64(1-me))},
	}
}

// play returns how the session went another way than it may.
func (a *actor) play() error {
	defer a.conn.Close()
	for _, st := range a.steps[a.me] {
		var err error
		switch st.kind {
		case stepWrite:
			err = a.write(int64(st.n))
		case stepRead:
			_, err = io.CopyN(&a.in, struct{ io.Reader }{a.conn}, int64(st.n))
			if err != nil {
				if err == io.EOF {
					err = nil
				}
				return a.judge(err)
			}
		case stepYield:
			for range st.n {
				runtime.Gosched()
			}
		case stepFIN:
			err = a.fin()
		case stepReset:
			abort(a.conn)
			return nil
		case stepClose:
			return a.conn.Close()
		}
		if err != nil {
			return fmt.Errorf("%v: %w", st, err)
		}
	}
	if !a.model[a.me].fin {
		if err := a.fin(); err != nil {
			return fmt.Errorf("FIN at the end: %w", err)
		}
	}
	_, err := io.Copy(&a.in, struct{ io.Reader }{a.conn})
	return a.judge(err)
}

func (a *actor) write(n int64) error {
	if a.lost {
		return nil
	}
	m, err := io.CopyN(a.conn, a.out, n)
	a.written += m
	return a.excuse(err)
}

func (a *actor) fin() error { return a.excuse(fin(a.conn)) }

// excuse drops the error of a write whose reader may be gone.
func (a *actor) excuse(err error) error {
	if err != nil && !a.orderly(1-a.me) && !errors.Is(err, os.ErrDeadlineExceeded) {
		a.lost = true
		return nil
	}
	return err
}

// judge looks at how reading ended; a nil err stands for the end of the stream.
//
// Everything that is not the beginning of what the peer has written was found by the checker. An orderly peer's stream
// arrives whole and ends. After a reset there may be less, and then no orderly end, but where the socket cannot say so: a
// unix socket, or one whose write has already told of the reset, which Linux says once.
func (a *actor) judge(err error) error {
	peer := a.model[1-a.me]
	whole := a.in.n == int64(peer.written)
	switch {
	case a.orderly(1 - a.me):
		if err == nil && whole {
			return nil
		}
	case isReset(err):
		return nil
	case err != nil:
	case a.lost || !isTCP(a.conn), whole && (!peer.reset || peer.fin || !isTCP(a.peer)):
		return nil
	}
	return fmt.Errorf("%d of %d bytes were read, then %w", a.in.n, peer.written, orEOF(err))
}

// run plays the schedule on one session of g, and returns the bytes that were written and those that were read, each way.
func (s *schedule) run(g *rig) (written, read [2]int64, err error) {
	client, target, err := g.pair()
	if err != nil {
		return written, read, err
	}
	actors := [2]*actor{s.actor(0, client, target), s.actor(1, target, client)}
	done := make(chan error, 1)
	go func() { done <- actors[1].play() }()
	if err = actors[0].play(); err != nil {
		err = fmt.Errorf("the client: %w", err)
	}
	if failed := <-done; failed != nil {
		err = errors.Join(err, fmt.Errorf("the target: %w", failed))
	}
	for i, a := range actors {
		written[i], read[i] = a.written, actors[1-i].in.n
	}
	return written, read, err
}

// scheduleVariable names the one schedule to run, many times, instead of all.
const scheduleVariable = "FAIRLEAD_SCHEDULE"

// randomSchedules plays 20,000 schedules, 64 at a time; of those most on the main route.
func randomSchedules(t *testing.T, g *rig) {
	total, first, stride := uint64(2000), uint64(1), uint64(1)
	if g.isMain() {
		total = 14_000
	}
	if testing.Short() || underRace {
		total /= 10
	}
	if only := os.Getenv(scheduleVariable); only != "" {
		var err error
		if first, err = strconv.ParseUint(only, 10, 64); err != nil {
			t.Fatalf("%s: %v", scheduleVariable, err)
		}
		stride = 0
	}
	var next, failed, sessions atomic.Uint64
	var written, read [2]atomic.Int64
	var workers sync.WaitGroup
	for range 64 {
		workers.Go(func() {
			for i := next.Add(1) - 1; i < total && failed.Load() < 5; i = next.Add(1) - 1 {
				s := newSchedule(first + i*stride)
				w, r, err := s.run(g)
				if err != nil {
					failed.Add(1)
					t.Errorf("%v\n%v\nagain: %s=%d", s, err, scheduleVariable, s.seed)
				}
				sessions.Add(1)
				for i := range written {
					written[i].Add(w[i])
					read[i].Add(r[i])
				}
			}
		})
	}
	workers.Wait()
	g.ends(t, sessions.Load())
	s := g.stats()
	for i, counted := range []uint64{s.BytesIn, s.BytesOut} {
		if n := int64(counted); n < read[i].Load() || n > written[i].Load() {
			t.Errorf("%s: %d bytes were counted, %d written and %d read", []string{"in", "out"}[i], n, written[i].Load(), read[i].Load())
		}
	}
}
