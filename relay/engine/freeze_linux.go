package engine

// Freeze takes an open stream out of a closed engine. Its descriptors are no longer the stream's; the owner is told nothing.
// Whoever closes them without having gone on with the stream resets it: an orderly end would pass for the whole of what was
// sent. It reports false for a stream that has no two connected sockets, or is about to be reset.
func (s *Stream) Freeze() (Frozen, bool) {
	var f Frozen
	if s.state != open || s.broken {
		return f, false
	}
	for side := range s.ends {
		e := &s.ends[side]
		f.Moved[side], f.Free[side], f.Done[side] = e.moved.Load(), e.free, e.flags&done != 0
		f.Unix[side] = e.flags&unixSide != 0
		f.Pending[side] = e.pending
		if e.pipe != nil {
			held, ok := e.pipe.drain()
			if !ok {
				return f, false
			}
			f.Pending[side] = append(f.Pending[side], held...)
		}
	}
	for side := range s.ends {
		ResetOnClose(s.FD(side), true)
	}
	s.state = ended
	return f, true
}

// Waiting reports whether the stream's target has not answered yet. It may be asked in the stream's loop, and when the
// engine is closed.
func (s *Stream) Waiting() bool { return s.state == connecting }

// drain reads what is in a pipe.
func (p *pipe) drain() ([]byte, bool) {
	held := make([]byte, p.held)
	for got := 0; got < len(held); {
		n, errno := read(p.r, held[got:])
		if errno != 0 || n == 0 {
			return nil, false
		}
		got += n
	}
	p.held = 0
	return held, true
}

func (f *Frozen) thaw(s *Stream) {
	for side := range s.ends {
		e := &s.ends[side]
		e.pending, e.free = f.Pending[side], f.Free[side]
		ResetOnClose(s.FD(side), false)
		if f.Done[side] {
			e.flags |= done
		}
	}
}
