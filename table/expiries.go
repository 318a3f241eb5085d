package table

import (
	"container/heap"
	"time"

	"github.com/fairlead-net/fairlead/forward"
)

// expiries is the entries that end by themselves and change by time in no other way, leases most of all: there may be tens of
// thousands, each with its own end, so none is looked at before that. It is a heap with the first to end on top.
type expiries []*entry

// byExpiry reports whether f belongs into expiries. What the file has expires too, but stays, and comes back when the clock
// is set back; what is disabled stays, unless it is a lease.
func byExpiry(f *forward.Forward) bool {
	return !f.Expires.IsZero() && f.When.IsZero() && f.Origin != forward.OriginFile && (!f.Disabled || f.Origin.IsLease())
}

func (x expiries) Len() int           { return len(x) }
func (x expiries) Less(i, j int) bool { return x[i].f.Expires.Before(x[j].f.Expires) }

func (x expiries) Swap(i, j int) {
	x[i], x[j] = x[j], x[i]
	x[i].place, x[j].place = i+1, j+1
}

// Push is for container/heap alone, and so is Pop.
func (x *expiries) Push(e any) {
	*x = append(*x, e.(*entry))
	(*x)[len(*x)-1].place = len(*x)
}

// Pop takes the last one off.
func (x *expiries) Pop() any {
	last := len(*x) - 1
	e := (*x)[last]
	(*x)[last], *x = nil, (*x)[:last]
	e.place = 0
	return e
}

// set puts e where its forward's expiry belongs, whether it was in x before or not.
func (x *expiries) set(e *entry) {
	switch has := byExpiry(e.f); {
	case has && e.place > 0:
		heap.Fix(x, e.place-1)
	case has:
		heap.Push(x, e)
	default:
		x.remove(e)
	}
}

func (x *expiries) remove(e *entry) {
	if e.place > 0 {
		heap.Remove(x, e.place-1)
	}
}

// over calls yield for every entry that has expired, in no order.
func (x expiries) over(now time.Time, yield func(*entry)) { x.overBelow(0, now, yield) }

func (x expiries) overBelow(at int, now time.Time, yield func(*entry)) {
	if at >= len(x) || now.Before(x[at].f.Expires) {
		return
	}
	yield(x[at])
	x.overBelow(2*at+1, now, yield)
	x.overBelow(2*at+2, now, yield)
}

// first is when the first one expires; zero: there is none.
func (x expiries) first() time.Time {
	if len(x) == 0 {
		return time.Time{}
	}
	return x[0].f.Expires
}
