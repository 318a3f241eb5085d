package table

import (
	"time"

	"github.com/fairlead-net/fairlead/forward"
)

// shutOf says whether f may be carried at this time, or why not. It goes by the wall clock, whatever that has done since it
// was last asked.
func shutOf(f *forward.Forward, now time.Time) shut {
	switch {
	case f.Disabled:
		return disabled
	case !f.Expires.IsZero() && !now.Before(f.Expires):
		return expired
	case !f.When.Open(now):
		return closed
	}
	return open
}

// nextShut is the next time at which shutOf may answer differently, or the zero time. For a schedule that is the next
// minute: to find its next change takes longer than to look every minute, for schedules have minutes.
func nextShut(f *forward.Forward, now time.Time) time.Time {
	switch {
	case f.Disabled || !f.Expires.IsZero() && !now.Before(f.Expires):
		return time.Time{}
	case f.When.IsZero():
		return f.Expires
	}
	return earliest(f.Expires, now.Truncate(time.Minute).Add(time.Minute))
}

// earliest is the first of two times, of which the zero time means none.
func earliest(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// shutDetail is the word for s in a Status. opens finds when a schedule changes next.
func shutDetail(s shut, f *forward.Forward, opens func(forward.Schedule) time.Time) string {
	switch s {
	case closed:
		if t := opens(f.When); !t.IsZero() {
			return "closed by its schedule until " + t.Format("Mon 15:04")
		}
		return "closed by its schedule"
	case expired:
		return "expired"
	case disabled:
		if f.Lease != nil && f.Lease.Asking {
			return "waits to be approved: `fairlead leases approve " + f.Name + "` lets it in"
		}
		return "disabled"
	case takenDown:
		return "taken down"
	}
	return ""
}
