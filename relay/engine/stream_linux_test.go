package engine

import (
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// ends tells of the end of a stream.
type ends chan struct{}

func (ends) Connected(*Stream)                          {}
func (ends) Failed(*Stream, error) (int, time.Duration) { return -1, 0 }
func (e ends) Ended(*Stream)                            { close(e) }

// TestKillBeforeBegin ends a stream that was on its way to its loop when it was killed.
func TestKillBeforeBegin(t *testing.T) {
	e, err := New()
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	var near, far [2]int
	for _, pair := range []*[2]int{&near, &far} {
		*pair, err = unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(pair[1])
	}
	ended := make(ends)
	s := new(Stream)
	s.Init(Options{Owner: ended, Loop: e.Loop(), Client: near[0], Target: far[0], Unix: [2]bool{true, true}})
	s.Kill()
	e.Start(s)
	select {
	case <-ended:
	case <-time.After(10 * time.Second):
		t.Fatal("a stream that was killed goes on")
	}
	for _, fd := range []int{near[1], far[1]} {
		if n, err := unix.Read(fd, make([]byte, 1)); n != 0 || err != nil {
			t.Errorf("the other end reads %d bytes, %v; want the end", n, err)
		}
	}
}
