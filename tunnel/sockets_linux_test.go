package tunnel

import (
	"context"
	"errors"
	"os"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fairlead-net/fairlead/node"
)

// sockets is a pair of them, of which the session gets the first.
func sockets(t *testing.T) (near, far int) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(fds[1]) })
	return fds[0], fds[1]
}

// running is a session that runs until the test ends.
func running(t *testing.T, o Options) *Session {
	s := New(o)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		_ = s.Run(ctx)
		close(done)
	}()
	t.Cleanup(func() {
		cancel()
		<-done
	})
	return s
}

// arrival is one that nobody has answered.
func (s *Session) arrival(number uint64) *Arrival {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.newStream(Call{Kind: Dial, Network: "tcp"})
	st.id = number
	s.streams[number] = st
	s.foreign++
	return &Arrival{Call: st.call, st: st}
}

// TestSlotsAreGivenBackOnce: of a socket that cannot be polled, the place in the poller is not given to two others.
func TestSlotsAreGivenBackOnce(t *testing.T) {
	s := running(t, Options{Side: Hub})
	file, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	fd, err := unix.FcntlInt(file.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	s.arrival(1).Meet(fd, node.MeetOptions{BearOptions: node.BearOptions{Ended: func(node.Borne) { close(ended) }}})
	<-ended
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.poller.free) != 1 {
		t.Errorf("free places: %v", s.poller.free)
	}
}

// TestKilledBetweenTwoAttempts: who kills a socket that has just failed to connect is told that it has ended, and nothing breaks.
func TestKilledBetweenTwoAttempts(t *testing.T) {
	s := running(t, Options{Side: Hub})
	fd, _ := sockets(t)
	st := s.arrival(1).st
	ended := 0
	b := &borne{st: st, fd: fd, place: -1, state: borneOpening, meets: true, o: node.BearOptions{Ended: func(node.Borne) { ended++ }}}
	b.failed = func(err error) { b.nextAttempt(-1, 0) }
	st.borne = b
	s.mu.Lock()
	if _, err := s.polling(); err != nil {
		t.Fatal(err)
	}
	b.attemptFailed(errConnectTimeout)
	after := s.after
	s.after = nil
	s.mu.Unlock()
	b.Kill()
	for _, do := range after {
		do()
	}
	if ended != 1 {
		t.Errorf("ended %d times", ended)
	}
}

// TestLeadingAfterTheEnd: a session that has ended begins nothing that nobody would end.
func TestLeadingAfterTheEnd(t *testing.T) {
	s := New(Options{})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_ = s.Run(ctx)
	fd, _ := sockets(t)
	defer unix.Close(fd)
	if _, ok := s.Lead(fd, Call{Kind: Dial, Network: "tcp", Address: "x:1"}, node.LeadOptions{}); ok {
		t.Error("a session that has ended leads")
	}
	if s.poller != nil {
		t.Error("it polls")
	}
}

// TestGivenUpWithoutALink: clients who came while there was no link, and left, leave room for others.
func TestGivenUpWithoutALink(t *testing.T) {
	s := running(t, Options{Streams: 8})
	for i := range 50 {
		fd, _ := sockets(t)
		ended := make(chan struct{})
		b, ok := s.Lead(fd, Call{Kind: Dial, Network: "tcp", Address: "x:1"}, node.LeadOptions{
			BearOptions: node.BearOptions{Ended: func(node.Borne) { close(ended) }},
			Failed:      func(error) {},
		})
		if !ok {
			t.Fatalf("after %d that were given up there is no room", i)
		}
		b.Kill()
		<-ended
	}
}

// TestResetOfASocketThatTakesNothing: an application that does not read does not keep its socket here for ever once the stream was reset.
func TestResetOfASocketThatTakesNothing(t *testing.T) {
	s := running(t, Options{Side: Hub})
	st, err := s.arrival(1).Accept(nil)
	if err != nil {
		t.Fatal(err)
	}
	fd, _ := sockets(t)
	ended := make(chan struct{})
	if _, ok := st.Bear(fd, node.BearOptions{Ended: func(node.Borne) { close(ended) }}); !ok {
		t.Fatal("not carried")
	}
	s.mu.Lock()
	st.granted = 4 << 20
	st.got = 4 << 20
	st.borne.take(make([]byte, 4<<20))
	if st.borne.pending.size == 0 {
		t.Error("the socket takes everything")
	}
	s.wasReset(1)
	s.unlock()
	select {
	case <-ended:
	case <-time.After(30 * time.Second):
		t.Error("it is kept")
	}
}

// TestFreezeWaitsForAWrite: what is being written to a socket is not written once more by the next process.
func TestFreezeWaitsForAWrite(t *testing.T) {
	s := running(t, Options{Side: Hub})
	st, err := s.arrival(1).Accept(nil)
	if err != nil {
		t.Fatal(err)
	}
	fd, _ := sockets(t)
	if _, ok := st.Bear(fd, node.BearOptions{Ended: func(node.Borne) {}}); !ok {
		t.Fatal("not carried")
	}
	s.mu.Lock()
	b := st.borne
	b.pending.add([]byte("written and not taken out yet"))
	b.writing = true
	s.mu.Unlock()
	go func() {
		<-s.stopped
		time.Sleep(10 * time.Millisecond) // Freeze does not wait if it is as it was
		s.mu.Lock()
		defer s.mu.Unlock()
		b.writing = false
		b.pending.clear()
	}()
	f, err := s.Freeze()
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range f.Descriptors() {
		_ = unix.Close(fd)
	}
	if len(f.Streams) != 1 || len(f.Streams[0].Undelivered) > 0 {
		t.Errorf("%+v", f.Streams)
	}
}

// TestFreezeTellsThoseWhoWait: a client who is led gets to know that it came to nothing before that it has ended.
func TestFreezeTellsThoseWhoWait(t *testing.T) {
	s := running(t, Options{})
	fd, _ := sockets(t)
	var said []string
	_, ok := s.Lead(fd, Call{Kind: Dial, Network: "tcp", Address: "x:1"}, node.LeadOptions{
		BearOptions: node.BearOptions{Ended: func(node.Borne) { said = append(said, "ended") }},
		Failed:      func(error) { said = append(said, "failed") },
	})
	if !ok {
		t.Fatal("not led")
	}
	if _, err := s.Freeze(); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(said, []string{"failed", "ended"}) {
		t.Errorf("it was told %v", said)
	}
}

// TestAttemptsHaveTheirOwnTime: that of an attempt to connect which has failed does not run on for the next one, whose socket may have the
// same number.
func TestAttemptsHaveTheirOwnTime(t *testing.T) {
	s := running(t, Options{Side: Hub})
	fd, _ := sockets(t)
	next, _ := sockets(t)
	st := s.arrival(1).st
	b := &borne{st: st, fd: fd, place: -1, state: borneOpening, meets: true, o: node.BearOptions{Ended: func(node.Borne) {}}}
	b.failed = func(error) {}
	st.borne = b
	s.mu.Lock()
	defer s.unlock()
	if _, err := s.polling(); err != nil {
		t.Fatal(err)
	}
	b.attempt(fd, time.Hour)
	first := b.timer
	b.attemptFailed(errors.New("refused"))
	b.attempt(next, time.Hour)
	if first.Reset(time.Hour) {
		t.Error("the time of the first attempt runs on")
	}
	first.Stop()
}
