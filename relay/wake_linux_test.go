package relay

import (
	"io"
	"net"
	"testing"
)

// The waker stops with the last client who waits, however that leaves; who only ended its direction goes on waiting.
func TestWaiterLeaves(t *testing.T) {
	b, r := newBed(t)
	port := freePort(t)
	apply(t, r, sleepy(t, port))
	addr := "127.0.0.1:" + port
	patient := dial(t, "tcp", addr)
	_, _ = io.WriteString(patient, "question")
	_ = patient.(*net.TCPConn).CloseWrite()
	silent, resets := dial(t, "tcp", addr), dial(t, "tcp", addr)
	_, _ = io.WriteString(resets, "question")
	eventually(t, "all to wait", waking(r, "3 clients"))
	silent.Close()
	_ = resets.(*net.TCPConn).SetLinger(0)
	resets.Close()
	eventually(t, "two to leave", waking(r, "1 client"))
	b.now(nil)
	if got, err := readAll(t, patient); err != nil || got != "question" {
		t.Errorf("got %q, %v", got, err)
	}
	if s := r.Stats()["x"]; s.Refused != 0 || s.Total != 1 || s.Note != "" {
		t.Errorf("stats are %+v", s)
	}
}

func TestWaiterIsKilled(t *testing.T) {
	_, r := newBed(t)
	port := freePort(t)
	apply(t, r, sleepy(t, port))
	c := dial(t, "tcp", "127.0.0.1:"+port)
	eventually(t, "it to wait", waking(r, "1 client"))
	apply(t, r)
	turnedAway(t, c)
}
