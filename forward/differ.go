package forward

// Differ returns what is only in old and what is only in now. Both are sorted by name. A forward that asks for the same is the same,
// and what is the same pointer is not looked at.
func Differ(old, now []*Forward) (removed, added []*Forward) {
	for len(old) > 0 || len(now) > 0 {
		switch {
		case len(old) > 0 && len(now) > 0 && old[0] == now[0]:
			n := same(old, now)
			old, now = old[n:], now[n:]
		case len(now) == 0 || len(old) > 0 && old[0].Name < now[0].Name:
			removed, old = append(removed, old[0]), old[1:]
		case len(old) == 0 || now[0].Name < old[0].Name:
			added, now = append(added, now[0]), now[1:]
		default:
			if !old[0].Equal(now[0]) {
				removed, added = append(removed, old[0]), append(added, now[0])
			}
			old, now = old[1:], now[1:]
		}
	}
	return removed, added
}

// same is how many forwards both lists begin with. Of thousands a few are others, so this is where the time goes.
func same(old, now []*Forward) int {
	now = now[:min(len(old), len(now))]
	for i, f := range now {
		if f != old[i] {
			return i
		}
	}
	return len(now)
}
