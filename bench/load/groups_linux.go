package load

import (
	"time"

	"golang.org/x/sys/unix"
)

// A group is one of Spec.Groups as one client sees it.
type group struct {
	to     []*unix.RawSockaddrInet4 // of its connections
	counts []uint64                 // by round
	times  histogram
	errors uint64
	err    error
}

// prepareGroups finds the targets of client i of n.
func (c *client) prepareGroups(i, n int) error {
	for _, targets := range c.spec.Groups {
		g := group{counts: make([]uint64, c.spec.rounds())}
		for j := i; j < c.spec.Workers; j += n {
			to, err := sockaddr(targets[j%len(targets)])
			if err != nil {
				return err
			}
			g.to = append(g.to, to)
		}
		c.groups = append(c.groups, g)
	}
	return nil
}

// connections is how many the client keeps.
func (c *client) connections() int {
	if len(c.groups) > 0 {
		return len(c.groups[0].to)
	}
	return len(c.to)
}

// target is where the client's i-th connection goes that begins now.
func (c *client) target(i int, now time.Time) *unix.RawSockaddrInet4 {
	if len(c.groups) == 0 {
		return c.to[i]
	}
	return c.groups[c.spec.group(c.turn(now))].to[i]
}

// turn is which one it is; before the first is the first.
func (c *client) turn(now time.Time) int { return max(0, int(now.Sub(c.from)/c.spec.Turn)) }

// at is the group and the round in which an operation began, nil if that is not counted.
func (c *client) at(began time.Time) (g *group, round int) {
	if len(c.groups) == 0 || began.Before(c.from) {
		return nil, 0
	}
	turn := c.turn(began)
	if turn >= c.spec.rounds()*len(c.groups) {
		return nil, 0
	}
	return &c.groups[c.spec.group(turn)], turn / len(c.groups)
}

func (c *client) finishedInGroup(began time.Time) {
	if g, round := c.at(began); g != nil {
		g.counts[round]++
		g.times.add(time.Since(began))
	}
}

func (c *client) failedInGroup(began time.Time, err error) {
	if g, _ := c.at(began); g != nil {
		g.errors++
		g.err = err
	}
}

// sumGroups adds up what the clients counted that have ended.
func (s *Spec) sumGroups(clients []*client) []GroupResult {
	out := make([]GroupResult, len(s.Groups))
	for i := range out {
		r := &out[i]
		r.Counts = make([]uint64, s.rounds())
		var times histogram
		for _, c := range clients {
			if !c.done.Load() {
				continue
			}
			g := &c.groups[i]
			for round, n := range g.counts {
				r.Counts[round] += n
			}
			times.merge(&g.times)
			r.Errors += g.errors
			if g.err != nil {
				r.Error = g.err.Error()
			}
		}
		r.P99 = times.quantile(0.99)
	}
	return out
}
