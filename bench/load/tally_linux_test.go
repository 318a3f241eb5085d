package load

import (
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Two maps of one file are one tally, whose waiter is woken when the count has come, beyond the wrap-around too.
func TestTally(t *testing.T) {
	file := filepath.Join(t.TempDir(), "tally")
	sink, err := openTally(file)
	if err != nil {
		t.Fatal(err)
	}
	sender, err := openTally(file)
	if err != nil {
		t.Fatal(err)
	}
	start := ^uint32(0) - 10
	sink.datagrams.Store(start)
	reached := make(chan uint32)
	go func() { reached <- sender.wait(start+20, time.Minute) }()
	for range 4 {
		sink.add(5, 500)
	}
	if got := <-reached; got != 9 {
		t.Errorf("woken at %d, want 9", got)
	}
	if got := sender.wait(10, time.Millisecond); got != 9 || sender.waiting.Load() != 0 {
		t.Errorf("after waiting in vain the count is %d", got)
	}
	if got := sender.bytes.Load(); got != 2000 {
		t.Errorf("%d bytes", got)
	}
}

func TestJoinedDatagrams(t *testing.T) {
	b := newBatch(1, 1, false)
	b.joined()
	joined := control{hdr: unix.Cmsghdr{Level: unix.SOL_UDP, Type: unix.UDP_GRO}, size: 1400}
	tests := []struct {
		ctl    control
		room   int
		length uint32
		want   uint32
	}{
		{joined, 24, 2800, 2},
		{joined, 24, 2801, 3},
		{joined, 24, 10, 1},
		{joined, 0, 2800, 1}, // no control message: what is in the room is of before
		{control{hdr: joined.hdr}, 24, 2800, 1},
		{control{hdr: unix.Cmsghdr{Level: unix.SOL_SOCKET, Type: unix.UDP_GRO}, size: 1400}, 24, 2800, 1},
	}
	for _, tt := range tests {
		b.ctl[0], b.msgs[0].n = tt.ctl, tt.length
		b.msgs[0].hdr.SetControllen(tt.room)
		if got := b.datagrams(0); got != tt.want {
			t.Errorf("%+v, %d bytes: %d datagrams, want %d", tt.ctl, tt.length, got, tt.want)
		}
	}
}
