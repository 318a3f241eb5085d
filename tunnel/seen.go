package tunnel

// seenMost is how many numbers may be missing below the highest before the lowest are given up.
const seenMost = 1 << 16

// A seen remembers which numbers were used, which come nearly in order and may come again.
type seen struct {
	below uint64 // all of these
	above map[uint64]struct{}
}

// add remembers n, and reports whether it is new.
func (s *seen) add(n uint64) bool {
	if s.has(n) {
		return false
	}
	if n != s.below {
		if s.above == nil {
			s.above = map[uint64]struct{}{}
		}
		s.above[n] = struct{}{}
		if len(s.above) > seenMost {
			s.below++ // this one will not come any more
			s.settle()
		}
		return true
	}
	s.below++
	s.settle()
	return true
}

// remove has n be new again, and reports whether that can be.
func (s *seen) remove(n uint64) bool {
	if _, ok := s.above[n]; ok {
		delete(s.above, n)
		return true
	}
	if n >= s.below || uint64(len(s.above))+s.below-n > seenMost {
		return false
	}
	if s.above == nil {
		s.above = map[uint64]struct{}{}
	}
	for m := n + 1; m < s.below; m++ {
		s.above[m] = struct{}{}
	}
	s.below = n
	return true
}

func (s *seen) has(n uint64) bool {
	_, ok := s.above[n]
	return ok || n < s.below
}

func (s *seen) settle() {
	for len(s.above) > 0 {
		if _, ok := s.above[s.below]; !ok {
			return
		}
		delete(s.above, s.below)
		s.below++
	}
	s.above = nil
}
