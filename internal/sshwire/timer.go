package sshwire

import "container/heap"

// A timer calls expire of what it belongs to, once, in the loop. The zero timer is not set.
type timer struct {
	at    int64 // nanoseconds on the loop's clock
	place int   // in the heap, from 1; 0: not set
	owner expirer
}

type expirer interface{ expire() }

// timers is a heap, the earliest first, in which each timer knows its place, so that it can be taken out.
type timers []*timer

func (h timers) Len() int           { return len(h) }
func (h timers) Less(i, j int) bool { return h[i].at < h[j].at }

func (h timers) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].place, h[j].place = i+1, j+1
}

func (h *timers) Push(t any) {
	t.(*timer).place = len(*h) + 1
	*h = append(*h, t.(*timer))
}

func (h *timers) Pop() any {
	last := len(*h) - 1
	t := (*h)[last]
	(*h)[last] = nil
	*h = (*h)[:last]
	t.place, t.owner = 0, nil
	return t
}

// set makes t due at a time, whether it was set before or not.
func (h *timers) set(t *timer, owner expirer, at int64) {
	t.at, t.owner = at, owner
	if t.place > 0 {
		heap.Fix(h, t.place-1)
		return
	}
	heap.Push(h, t)
}

func (h *timers) clear(t *timer) {
	if t.place > 0 {
		heap.Remove(h, t.place-1)
	}
}
