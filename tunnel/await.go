package tunnel

// Await waits until Read has something to say at once, so that nobody needs to hold a buffer meanwhile. One goroutine reads.
func (st *Stream) Await() {
	s := st.s
	s.mu.Lock()
	defer s.mu.Unlock()
	for !st.closed && !st.rd.late() && st.in.first == nil && !st.finGot && st.err == nil {
		st.wait(&st.rd)
	}
}
