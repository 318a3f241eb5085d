package relay

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/fairlead-net/fairlead/forward"
)

// The conformance suite says what a relay of byte streams owes to both of its ends. It plays client and target with real
// sockets, and of the relay it knows Apply, Stats, Sessions and Kill alone, so that every engine can be held to it.

// A contender is a way to carry streams.
type contender struct {
	start func(*testing.T) *Relay
	// watchful: the engine notices the death of a connection even while it is not reading from it or writing to it. One
	// that waits in Read and Write learns of it when it tries next.
	watchful bool
}

func TestConformance(t *testing.T) {
	t.Run("engine", func(t *testing.T) { conformance(t, contender{start: startRelay, watchful: CanHandOver}) })
	t.Run("portable", func(t *testing.T) { conformance(t, contender{start: startPortable}) })
}

// conformance holds an engine to everything, for each pair of kinds of sockets.
func conformance(t *testing.T, e contender) {
	for _, rt := range routes {
		t.Run(rt.String(), func(t *testing.T) {
			for _, c := range endings {
				t.Run(c.name, func(t *testing.T) { playFromBothSides(t, newRig(t, e, rt), c) })
			}
			for _, c := range append(wholes, systemWholes...) {
				t.Run(c.name, func(t *testing.T) { c.run(t, newRig(t, e, rt)) })
			}
		})
	}
}

// A whole is a case that opens the sessions that it needs.
type whole struct {
	name string
	run  func(*testing.T, *rig)
}

var wholes = []whole{
	{"every byte a write of its own", oneByteWrites},
	{"end before the target is there", endBeforeTarget},
	{"reset before the target is there", resetBeforeTarget},
	{"target refuses", targetRefuses},
	{"target cannot be reached", targetUnreachable},
	{"kill", killed},
	{"forward removed", forwardRemoved},
	{"dead after any number of bytes", deadAfter},
	{"totals", totals},
	{"bulk both ways", bulkBothWays},
	{"readers that never read", neverReading},
	{"small sessions beside bulk", smallBesideBulk},
	{"idle clients", idleClients},
	{"random schedules", randomSchedules},
	{"soak", soak},
}

// A route is a pair of networks that a relay joins, the client's and the target's.
type route struct{ near, far string }

var routes = []route{{"tcp", "tcp"}, {"tcp", "unix"}, {"unix", "tcp"}, {"unix", "unix"}}

func (rt route) String() string { return rt.near + " to " + rt.far }

// isMain picks the pair of which cases may ask the most. The others have the same code behind them, but for what the
// kernel makes of the socket.
func (rt route) isMain() bool { return rt == routes[0] }

// A rig is a relay with one forward, called "x", and the listener that is its target.
type rig struct {
	contender
	route
	relay   *Relay
	listen  string // of the forward
	addr    string // where clients dial
	target  net.Listener
	pairing sync.Mutex
}

// newRig starts the relay before everything else, so that it ends last and its check for leaks sees nothing of ours.
func newRig(t *testing.T, e contender, rt route) *rig {
	t.Helper()
	g := &rig{contender: e, route: rt, relay: e.start(t)}
	dir, err := os.MkdirTemp("", "") // t.TempDir would be too long for a unix socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if g.addr = filepath.Join(dir, "near"); g.near == "tcp" {
		g.addr = "127.0.0.1:" + freePort(t)
	}
	at := filepath.Join(dir, "far")
	if g.far == "tcp" {
		at = "127.0.0.1:0"
	}
	if g.target, err = net.Listen(g.far, at); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { g.target.Close() })
	g.listen = written(g.near, g.addr)
	apply(t, g.relay, fwd(t, "x", g.listen, written(g.far, g.target.Addr().String())))
	return g
}

// written is an address as a configuration names it.
func written(network, addr string) string {
	if network == "unix" {
		return "unix:" + addr
	}
	return addr
}

// dial is a client. Its deadline is patience from now.
func (g *rig) dial() (net.Conn, error) {
	return withDeadline(net.DialTimeout(g.near, g.addr, patience))
}

// accept is the target's next connection, with the same deadline.
func (g *rig) accept() (net.Conn, error) {
	_ = g.target.(interface{ SetDeadline(time.Time) error }).SetDeadline(time.Now().Add(patience))
	return withDeadline(g.target.Accept())
}

func withDeadline(c net.Conn, err error) (net.Conn, error) {
	if err != nil {
		return nil, err
	}
	return c, c.SetDeadline(time.Now().Add(patience))
}

// pair opens a session and returns its two ends. One at a time does so, and thus knows that they belong together.
func (g *rig) pair() (client, target net.Conn, err error) {
	g.pairing.Lock()
	defer g.pairing.Unlock()
	if client, err = g.dial(); err != nil {
		return nil, nil, err
	}
	if target, err = g.accept(); err != nil {
		client.Close()
		return nil, nil, fmt.Errorf("the client's connection did not arrive at the target: %w", err)
	}
	return client, target, nil
}

// open is pair for the length of a test.
func (g *rig) open(t *testing.T) (client, target *end) {
	t.Helper()
	c, d, err := g.pair()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close(); d.Close() })
	return &end{Conn: c, t: t, name: "client"}, &end{Conn: d, t: t, name: "target"}
}

func (g *rig) stats() forward.Stats { return g.relay.Stats()["x"] }

// ends waits until no session is left, and checks how many there have been. One whose target was gone right after it had
// accepted may be counted as refused: connect(2) of a socket that does not block says either, depending on who was quicker.
func (g *rig) ends(t *testing.T, n uint64) {
	t.Helper()
	eventually(t, "the sessions to end", func() bool {
		s := g.stats()
		return s.Open == 0 && s.Total+s.Refused >= n
	})
	if s := g.stats(); s.Total+s.Refused != n {
		t.Errorf("%d sessions and %d refused clients were counted, want %d", s.Total, s.Refused, n)
	}
}

// carried checks what the totals say after orderly sessions have ended.
func (g *rig) carried(t *testing.T, in, out uint64) {
	t.Helper()
	if s := g.stats(); s.BytesIn != in || s.BytesOut != out || s.Refused != 0 {
		t.Errorf("the totals are %d bytes in, %d out, and %d refused; want %d, %d and none", s.BytesIn, s.BytesOut, s.Refused, in, out)
	}
}

// An end is one side of a session.
type end struct {
	net.Conn
	t    *testing.T
	name string
	sent uint64
}

func (e *end) isTCP() bool { return isTCP(e.Conn) }

func isTCP(c net.Conn) bool {
	_, ok := c.(*net.TCPConn)
	return ok
}

func (e *end) send(text string) {
	e.t.Helper()
	if _, err := io.WriteString(e.Conn, text); err != nil {
		e.t.Fatalf("the %s cannot send: %v", e.name, err)
	}
	e.sent += uint64(len(text))
}

func (e *end) expect(text string) {
	e.t.Helper()
	got := make([]byte, len(text))
	if n, err := io.ReadFull(e.Conn, got); err != nil || string(got) != text {
		e.t.Fatalf("the %s got %d bytes, %v; want %d: got %.40q, want %.40q", e.name, n, err, len(text), got[:n], text)
	}
}

func (e *end) fin() {
	e.t.Helper()
	if err := fin(e.Conn); err != nil {
		e.t.Fatalf("the %s cannot end its direction: %v", e.name, err)
	}
}

// fin ends the direction that c sends in.
func fin(c net.Conn) error { return c.(interface{ CloseWrite() error }).CloseWrite() }

// CloseWrite makes an end as good as its connection.
func (e *end) CloseWrite() error { return fin(e.Conn) }

// expectEOF expects an orderly end that stays one: neither bytes nor a reset follow.
func (e *end) expectEOF() {
	e.t.Helper()
	for range 2 {
		if n, err := e.Read(make([]byte, 1)); n != 0 || err != io.EOF {
			e.t.Fatalf("the %s got %d bytes, %v; want the end of the stream", e.name, n, err)
		}
	}
}

// abort ends a TCP connection by a reset. A unix socket has no such thing and is closed.
func abort(c net.Conn) {
	if tcp, ok := c.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = c.Close()
}

func (e *end) abort() { abort(e.Conn) }

// expectReset expects no more bytes and an end that is not orderly.
func (e *end) expectReset() {
	e.t.Helper()
	got, err := io.ReadAll(e.Conn)
	if len(got) > 0 {
		e.t.Errorf("the %s got %.40q; want no more bytes", e.name, got)
	}
	if !abrupt(e.Conn, err) {
		e.t.Fatalf("the %s saw %v, want a reset", e.name, orEOF(err))
	}
}

// abrupt reports whether err, of a read from c, is what the end of a session by a reset looks like there. On a unix socket
// it looks the same as an orderly end, unless bytes were on their way to the one who closed (unix(7) has no word of it).
func abrupt(c net.Conn, err error) bool { return isReset(err) || err == nil && !isTCP(c) }

// isReset knows what a socket says whose peer has reset it: ECONNRESET, and once that has been said, EPIPE to each write.
func isReset(err error) bool {
	return errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

// orEOF puts into words what io.Copy and io.ReadAll make of the end of a stream.
func orEOF(err error) error {
	if err == nil {
		return io.EOF
	}
	return err
}

// writeUntilReset writes until that fails, as it must after a reset, whatever the direction of reading has said before.
func (e *end) writeUntilReset() {
	e.t.Helper()
	for {
		if _, err := e.Write(make([]byte, 1000)); err != nil {
			if !isReset(err) {
				e.t.Errorf("the %s's write failed by %v, want a reset", e.name, err)
			}
			return
		}
	}
}

// together runs all at once and fails the test by their errors.
func together(t *testing.T, all ...func() error) {
	t.Helper()
	errs := make(chan error, len(all))
	for _, f := range all {
		go func() { errs <- f() }()
	}
	for range all {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	if t.Failed() {
		t.FailNow()
	}
}

// payload is an endless stream of bytes that is the same for the same seed.
func payload(seed uint64) *rand.ChaCha8 {
	var key [32]byte
	for i := range 8 {
		key[i] = byte(seed >> (8 * i))
	}
	return rand.NewChaCha8(key)
}

// text is the first n bytes of a payload.
func text(seed uint64, n int) string {
	b := make([]byte, n)
	_, _ = payload(seed).Read(b)
	return string(b)
}

// A checker compares what is written to it with a payload.
type checker struct {
	want *rand.ChaCha8
	n    int64 // bytes that were right
	buf  []byte
}

func (c *checker) Write(p []byte) (int, error) {
	if len(c.buf) < len(p) {
		c.buf = make([]byte, len(p))
	}
	want := c.buf[:len(p)]
	_, _ = c.want.Read(want)
	if !bytes.Equal(p, want) {
		i := 0
		for p[i] == want[i] {
			i++
		}
		return i, fmt.Errorf("byte %d was changed on the way", c.n+int64(i))
	}
	c.n += int64(len(p))
	return len(p), nil
}

// sendPayload sends n bytes and ends that direction.
func sendPayload(c net.Conn, seed uint64, n int64) error {
	if m, err := io.CopyN(c, payload(seed), n); err != nil {
		return fmt.Errorf("after %d of %d bytes: %w", m, n, err)
	}
	return fin(c)
}

// expectPayload reads to the end of the stream through pieces of at most size bytes: just what sendPayload sent.
func expectPayload(c net.Conn, seed uint64, n int64, size int) error {
	check := &checker{want: payload(seed)}
	_, err := io.CopyBuffer(check, struct{ io.Reader }{c}, make([]byte, size))
	if err != nil || check.n != n {
		return fmt.Errorf("%d bytes arrived, then %w; want %d and the end of the stream", check.n, orEOF(err), n)
	}
	return nil
}

// memory is how much this process takes of the machine, in bytes, once all garbage is gone.
func memory() int64 {
	runtime.GC() // runs the finalizers that a first collection finds
	var m runtime.MemStats
	debug.FreeOSMemory()
	runtime.ReadMemStats(&m)
	inUse := int64(m.HeapInuse + m.StackInuse)
	if underRace {
		return inUse // the rest is the detector's
	}
	statm, err := os.ReadFile("/proc/self/statm") // in pages; the second number is what is resident, proc_pid_statm(5)
	if err != nil {
		return inUse // not Linux
	}
	var size, resident int64
	if _, err := fmt.Sscan(strings.TrimSpace(string(statm)), &size, &resident); err != nil {
		return inUse
	}
	return resident * int64(os.Getpagesize())
}
