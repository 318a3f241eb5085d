package main

import (
	"log/slog"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fairlead-net/fairlead/relay"
)

// pipes makes n pipes, of which it returns the ends to read and the ends to write.
func pipes(t *testing.T, n int) (r, w []int) {
	t.Helper()
	for range n {
		var p [2]int
		if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
			t.Fatal(err)
		}
		r, w = append(r, p[0]), append(w, p[1])
	}
	t.Cleanup(func() { closeAll(r) })
	return r, w
}

// TestParcel has descriptors go through a parcel as one process leaves them to another: closed here, open in the queue alone.
func TestParcel(t *testing.T) {
	for _, n := range []int{0, 1, maxRights, maxRights + 1, 3*maxRights + 10} {
		r, w := pipes(t, n)
		parcel, err := pack(w)
		if err != nil {
			t.Fatalf("%d: %v", n, err)
		}
		closeAll(w)
		got, err := unpack(parcel)
		if err != nil || len(got) != n {
			t.Fatalf("%d descriptors came out of a parcel of %d: %v", len(got), n, err)
		}
		for i, fd := range got {
			if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
				t.Errorf("descriptor %d of %d: flags %#x, %v", i, n, flags, err)
			}
			want := strconv.Itoa(i)
			_, _ = unix.Write(fd, []byte(want))
			buf := make([]byte, 16)
			if size, err := unix.Read(r[i], buf); err != nil || string(buf[:size]) != want {
				t.Errorf("descriptor %d of %d leads to that of %q, %v", i, n, buf[:max(size, 0)], err)
			}
		}
		closeAll(got)
		if again, err := unpack(parcel); err != nil || len(again) != 0 {
			t.Errorf("taken twice: %d, %v", len(again), err)
		}
		_ = unix.Close(parcel)
	}
}

// TestParcelOfMany makes a parcel as big as the unit's LimitNOFILE= has it at most.
func TestParcelOfMany(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: the descriptors on their way are more than RLIMIT_NOFILE")
	}
	_, w := pipes(t, 1)
	defer closeAll(w)
	began := time.Now()
	parcel, err := pack(slices.Repeat(w, 524288))
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("packed in %v", time.Since(began))
	_ = unix.Close(parcel)
}

// TestParcelDropped closes what nobody has taken out.
func TestParcelDropped(t *testing.T) {
	r, w := pipes(t, 300)
	parcel, err := pack(w)
	if err != nil {
		t.Fatal(err)
	}
	closeAll(w)
	_ = unix.Close(parcel)
	for _, fd := range r {
		p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		if n, err := unix.Poll(p, 5000); err != nil || n != 1 || p[0].Revents&unix.POLLHUP == 0 {
			t.Fatalf("a descriptor is still open: %d, %v", n, err)
		}
	}
}

// TestUnwrap takes over what was left, by its new numbers, and closes everything where that cannot be.
func TestUnwrap(t *testing.T) {
	const sessions = 200
	r, w := pipes(t, 2*sessions+1)
	left := &legacy{Relay: &relay.Handover{Listeners: []relay.HandedListener{{FD: w[0]}}, NextID: 7}}
	for i := range sessions {
		left.Relay.Sessions = append(left.Relay.Sessions, relay.HandedSession{HandedStream: relay.HandedStream{ID: uint64(i)}, FD: [2]int(w[1+2*i:])})
	}
	parcel, err := wrap(left)
	if err != nil {
		t.Fatal(err)
	}
	h, err := unwrap(parcel)
	_ = unix.Close(parcel)
	if err != nil || h.Relay.NextID != 7 || len(h.Relay.Sessions) != sessions {
		t.Fatalf("%+v, %v", h, err)
	}
	for i, fd := range h.descriptors() {
		if fd == w[i] {
			t.Errorf("descriptor %d has its old number", i)
		}
		_, _ = unix.Write(fd, []byte{byte(i)})
		var b [1]byte
		if _, err := unix.Read(r[i], b[:]); err != nil || b[0] != byte(i) {
			t.Errorf("descriptor %d leads to that of %d, %v", i, b[0], err)
		}
	}
	closeAll(h.descriptors())

	for why, manifest := range map[string]string{
		"format 99": "99 {}", "spoken of": strconv.Itoa(relay.HandoverFormat) + ` {"Relay":{}}`, "left: ": "nonsense", "not whole": strconv.Itoa(relay.HandoverFormat) + " {}",
	} {
		fd, err := unix.MemfdCreate("test", unix.MFD_CLOEXEC)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = unix.Pwrite(fd, []byte(manifest), 0)
		r, w := pipes(t, 1)
		parcel, err := pack([]int{fd, w[0]})
		if err != nil {
			t.Fatal(err)
		}
		closeAll([]int{fd, w[0]})
		if h, err := unwrap(parcel); err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("%q: %+v, %v; want an error with %q", manifest, h, err, why)
		}
		_ = unix.Close(parcel)
		if n, err := unix.Read(r[0], make([]byte, 1)); n != 0 || err != nil {
			t.Errorf("%q: a descriptor is still open: %d, %v", manifest, n, err)
		}
	}
}

// TestDeposit looks at what a service manager is told, and that one that says nothing does not hold the daemon for long.
func TestDeposit(t *testing.T) {
	path := t.TempDir() + "/notify"
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetReadDeadline(time.Now().Add(storeTime))
	t.Setenv("NOTIFY_SOCKET", path)
	_, w := pipes(t, 1)
	defer closeAll(w)
	done := make(chan struct{})
	var log sharedBuffer
	go func() {
		defer close(done)
		deposit(&legacy{Relay: &relay.Handover{Listeners: []relay.HandedListener{{FD: w[0]}}}}, slog.New(slog.NewTextHandler(&log, nil)))
	}()
	for _, want := range []string{storeParcel, barrier} {
		buf, rights := make([]byte, 4096), make([]byte, 64)
		n, size, _, _, err := conn.ReadMsgUnix(buf, rights)
		if err != nil || string(buf[:n]) != want {
			t.Fatalf("told %q, %v; want %q", buf[:n], err, want)
		}
		fds, err := received(rights[:size])
		if err != nil || len(fds) != 1 {
			t.Fatalf("%s comes with %d descriptors, %v", want, len(fds), err)
		}
		if want == barrier {
			select {
			case <-done:
				t.Error("the barrier did not hold")
			case <-time.After(50 * time.Millisecond):
			}
		}
		closeAll(fds)
	}
	select {
	case <-done:
	case <-time.After(patience):
		t.Fatal("the daemon is held")
	}
	if !strings.Contains(log.String(), "given to the service manager") {
		t.Errorf("the end of the barrier was not seen:\n%s", &log)
	}
	_ = os.Remove(path)
	deposit(&legacy{Relay: &relay.Handover{Listeners: []relay.HandedListener{{FD: w[0]}}}}, slog.New(slog.DiscardHandler)) // nobody listens: no panic, no wait
}
