package tunnel

import "testing"

// TestPendingIsKeptWhileItIsWritten: a socket that ends while bytes are being written to it, without the lock, keeps them until that is over.
// Else they would be another stream's by then.
func TestPendingIsKeptWhileItIsWritten(t *testing.T) {
	s := New(Options{})
	s.mu.Lock()
	defer s.mu.Unlock()
	p, err := newPoller(s)
	if err != nil {
		t.Fatal(err)
	}
	defer p.stop()
	s.poller = p
	st := s.newStream(Call{Network: "tcp"})
	b := &borne{st: st, fd: -1, place: -1}
	st.borne = b
	b.pending.add([]byte("being written"))
	being := b.pending.first.data()
	b.writing = true
	b.end()
	for range 100 {
		c := newChunk(len(being))
		c.to += copy(c.buf[c.to:], "of another stream")
	}
	if string(being) != "being written" {
		t.Errorf("what is written has become %q", being)
	}
	b.writing = false
	if b.close(); b.pending.size != 0 {
		t.Error("it is kept for ever")
	}
}
