package engine

// A Timer calls expire of what it belongs to, once, in the loop. The zero Timer is not set.
type Timer struct {
	at    int64 // nanoseconds on the loop's clock
	place int32 // in the heap, from 1; 0: not set
	owner expirer
}

type expirer interface{ expire(l *Loop) }

// timers is a binary heap, the earliest first, in which each timer knows its place, so that it can be taken out.
type timers []*Timer

// next is when the first timer is due; ok is false when there is none.
func (h timers) next() (at int64, ok bool) {
	if len(h) == 0 {
		return 0, false
	}
	return h[0].at, true
}

// set makes t due at a time, whether it was set before or not.
func (h *timers) set(t *Timer, owner expirer, at int64) {
	t.at, t.owner = at, owner
	if t.place == 0 {
		*h = append(*h, t)
		t.place = int32(len(*h))
	}
	h.down(h.up(int(t.place) - 1))
}

func (h *timers) clear(t *Timer) {
	if t.place == 0 {
		return
	}
	i, last := int(t.place)-1, len(*h)-1
	h.swap(i, last)
	(*h)[last] = nil
	*h = (*h)[:last]
	t.place, t.owner = 0, nil
	if i < last {
		h.down(h.up(i))
	}
}

func (h timers) swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].place, h[j].place = int32(i+1), int32(j+1)
}

func (h timers) up(i int) int {
	for i > 0 && h[i].at < h[(i-1)/2].at {
		h.swap(i, (i-1)/2)
		i = (i - 1) / 2
	}
	return i
}

func (h timers) down(i int) {
	for {
		least := i
		for child := 2*i + 1; child <= 2*i+2 && child < len(h); child++ {
			if h[child].at < h[least].at {
				least = child
			}
		}
		if least == i {
			return
		}
		h.swap(i, least)
		i = least
	}
}
