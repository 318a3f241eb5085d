package main

import (
	"cmp"
	"context"
	"strings"
	"time"

	"github.com/fairlead-net/fairlead/forward"
	"github.com/fairlead-net/fairlead/relay"
	"github.com/fairlead-net/fairlead/table"
)

// How often the target of a port that is shared is asked while it does not answer, and what is said of visitors meanwhile.
const (
	targetTime  = 5 * time.Second // for an answer
	targetFirst = time.Second
	targetLast  = 8 * time.Second
	targetLines = 10 * time.Second // one line about visitors in that
)

// A sharedTarget is what is known of the target of a port that is shared: people who share a program often start it later. One of TCP is asked at
// the start, and again for as long as it does not answer; of UDP nothing but what visitors meet is known. Once it has answered, visitors alone tell.
//
//	asked ─► answers ◄──────────────┐
//	  └────► unreachable ◄─ visitors ─┘
type sharedTarget struct {
	why     string // it does not answer; "" is that it does, or that nothing is known
	asked   bool   // it was, once
	asking  <-chan error
	next    time.Time // it is asked again
	wait    time.Duration
	carried uint64 // sessions, or bytes of the answers of UDP, when something was said last
	refused uint64 // visitors of whom was told
	told    time.Time
}

// news is what has changed about a port's target, or nil. st is how its forward does; ask begins to ask the target.
func (g *sharedTarget) news(f *forward.Forward, st table.Status, ask func() <-chan error) *shareEvent {
	now, udp := time.Now(), f.Listen.Networks&forward.UDP != 0
	event := &shareEvent{To: f.To[0].String()}
	carried := st.Stats.Total
	if udp {
		carried = st.Stats.BytesOut
	}
	why := unreached(st.Stats.Note)
	switch {
	case why != "" && st.Stats.Refused > g.refused && (g.told.IsZero() || now.Sub(g.told) >= targetLines):
		event.State, event.Detail, event.Visitors = "unreachable", why, st.Stats.Refused-g.refused
		if g.why == "" {
			g.askAgain(now)
		}
		g.why, g.refused, g.carried, g.told = why, st.Stats.Refused, carried, now
		return event
	case g.why != "" && carried > g.carried:
		return g.answers(event, st.Stats.Refused)
	case udp:
	case g.asking == nil && (!g.asked || g.why != "" && !now.Before(g.next)):
		g.asked, g.asking = true, ask()
	case g.asking != nil:
		select {
		case err := <-g.asking:
			g.asking = nil
			return g.answered(event, err, now, st.Stats.Refused)
		default:
		}
	}
	return nil
}

// answered is what asking has come to.
func (g *sharedTarget) answered(event *shareEvent, err error, now time.Time, refused uint64) *shareEvent {
	switch {
	case err != nil:
		g.askAgain(now)
		if g.why != "" {
			return nil
		}
		g.why = unreached((&relay.DialError{Target: event.To, Err: err}).Error())
		event.State, event.Detail = "unreachable", g.why
		return event
	case g.why == "":
		return nil
	}
	return g.answers(event, refused)
}

func (g *sharedTarget) askAgain(now time.Time) {
	g.wait = min(2*cmp.Or(g.wait, targetFirst/2), targetLast)
	g.next = now.Add(g.wait)
}

func (g *sharedTarget) answers(event *shareEvent, refused uint64) *shareEvent {
	g.why, g.wait, g.refused = "", 0, refused
	event.State = "answers"
	return event
}

// unreached is why a target was not reached, if that is what a note is about.
func unreached(note string) string {
	about, ok := strings.CutPrefix(note, "target ")
	if !ok {
		return ""
	}
	_, why, _ := strings.Cut(about, ": ")
	return why
}

// targetNews says what has changed about targets.
func (s *sharing) targetNews(ctx context.Context) {
	all := s.table.Snapshot()
	for _, one := range s.all {
		event := one.target.news(one.f, statusOf(all, one.f.Name), func() <-chan error {
			answer := make(chan error, 1)
			s.asking.Go(func() { answer <- s.ask(ctx, one.f.To[0].String()) })
			return answer
		})
		if event != nil && ctx.Err() == nil {
			s.voice.say(*event)
		}
	}
}

// ask connects to a target, and says nothing to it.
func (s *sharing) ask(ctx context.Context, to string) error {
	ctx, cancel := context.WithTimeout(ctx, targetTime)
	defer cancel()
	conn, err := s.settings.agent.host.Dial(ctx, "tcp", to)
	if err != nil {
		return err
	}
	return conn.Close()
}

func statusOf(all []table.Status, name string) table.Status {
	for _, st := range all {
		if st.Forward.Name == name {
			return st
		}
	}
	return table.Status{}
}
