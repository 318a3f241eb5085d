package tunnel

// Err is why the session has ended, an *Error, or nil as long as it has not.
func (s *Session) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.ended {
		return nil
	}
	return s.cause
}
