package relay

import (
	"fmt"
	"io"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/fairlead-net/fairlead/node"
	"github.com/fairlead-net/fairlead/node/host"
	"github.com/fairlead-net/fairlead/relay/health"
)

// A silentSocket listens and takes no more connections, so that the kernel drops what comes: a host that is gone looks the
// same from here.
type silentSocket struct {
	fd    int
	addr  string
	queue []int // the connections that fill it
}

func newSilentSocket(t *testing.T) *silentSocket {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err == nil {
		err = unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}})
	}
	if err == nil {
		err = unix.Listen(fd, 0) // room for one (listen(2), sk_acceptq_is_full)
	}
	if err != nil {
		t.Fatal(err)
	}
	s := &silentSocket{fd: fd}
	name, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	port := uint16(name.(*unix.SockaddrInet4).Port)
	s.addr = fmt.Sprintf("127.0.0.1:%d", port)
	for range 2 {
		c, err := host.New().Connect(netip.AddrPortFrom(loopback4, port), node.ConnectOptions{})
		if err != nil {
			t.Fatal(err)
		}
		s.queue = append(s.queue, c)
	}
	t.Cleanup(s.close)
	return s
}

// wake takes all connections that wait, now and until the end of the test, and answers them with an end.
func (s *silentSocket) wake() {
	for {
		c, _, err := unix.Accept(s.fd)
		if err != nil {
			return
		}
		_ = unix.Close(c)
	}
}

func (s *silentSocket) close() {
	for _, fd := range append(s.queue, s.fd) {
		_ = unix.Close(fd)
	}
	s.queue, s.fd = nil, -1
}

// TestEngineLeavesSilentTarget has the engine connect to a target that drops every packet.
func TestEngineLeavesSilentTarget(t *testing.T) {
	port := freePort(t)
	alive := serve(t, "tcp", "127.0.0.1:0", say("alive")).String()
	r := startRelay(t)
	silent := newSilentSocket(t)
	f := fwd(t, "x", port, silent.addr, alive)
	apply(t, r, f)
	for range 3 {
		if got, err := readAll(t, dial(t, "tcp", "127.0.0.1:"+port)); got != "alive" || err != nil {
			t.Errorf("got %q, %v", got, err)
		}
	}
	if s := targetStats(r, 0); s.State != "failing" || s.Why != "no answer" {
		t.Errorf("the silent target is %+v", s)
	}
	eventually(t, "the silent target to be up again", func() bool {
		silent.wake()
		return targetStats(r, 0).State == health.Up.String()
	})
}

// TestEngineComesBack wants a target that was only given a moment to get its full time, when no other is there.
func TestEngineComesBack(t *testing.T) {
	port, dead := freePort(t), freePort(t)
	r := startRelay(t)
	silent := newSilentSocket(t)
	f := fwd(t, "x", port, silent.addr, "127.0.0.1:"+dead)
	apply(t, r, f)
	c := dial(t, "tcp", "127.0.0.1:"+port)
	ended := make(chan error, 1)
	go func() {
		_, err := io.Copy(io.Discard, c)
		ended <- err
	}()
	eventually(t, "the target that was given a moment to be reached after all", func() bool {
		if targetStats(r, 1).State == health.Failing.String() { // the other one has been tried
			silent.wake()
		}
		return len(ended) > 0
	})
	if err := <-ended; err != nil {
		t.Errorf("the client saw %v, want the end that the target sends", err)
	}
	if s := r.Stats()["x"]; s.Total != 1 || s.Refused != 0 {
		t.Errorf("stats are %+v", s)
	}
}
