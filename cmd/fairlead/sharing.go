package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/fairlead-net/fairlead/forward"
	"github.com/fairlead-net/fairlead/node"
	"github.com/fairlead-net/fairlead/table"
	"github.com/fairlead-net/fairlead/tunnel"
)

// sharing is what `fairlead share` does and shows.
//
//	connecting ─► waiting ─► ready        of each port, once the hub is there
//	    │            └─► refused ─► ready
//	    └─► refused: the end               reconnecting ─► connected, when the hub was there before
type sharing struct {
	*engine
	voice *shareVoice
	all   []*sharedPort
	ever  bool   // the hub has been there
	up    bool   // it is
	said  string // of the hub, last
	began time.Time

	asking sync.WaitGroup // targets

	mu      sync.Mutex
	putting *sharedPort // whose listener is opened now
}

// A sharedPort is one of the ports that are shared.
type sharedPort struct {
	f    *forward.Forward
	put  bool   // the table has it
	said string // of it, last
	no   error  // the hub's last answer, while that is a no
	at   farListener

	since  time.Time // it waits
	target sharedTarget
}

// A farListener is a listener at the hub.
type farListener interface {
	refusing
	address() net.Addr
}

// A streamListener and a packetListener are what an agent's hub returns.
type streamListener struct {
	net.Listener
	refusing
}

type packetListener struct {
	net.PacketConn
	refusing
}

type refusing interface {
	node.Stated
	Refused() (times int, last error)
	Ever() bool
}

func (l streamListener) address() net.Addr { return l.Addr() }
func (l packetListener) address() net.Addr { return l.LocalAddr() }

func newSharing(e *engine, list []*forward.Forward, voice *shareVoice) *sharing {
	s := &sharing{engine: e, voice: voice}
	for _, f := range list {
		s.all = append(s.all, &sharedPort{f: f})
	}
	return s
}

// listens is called for each listener that the hub is asked for.
func (s *sharing) listens(l farListener) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.putting != nil {
		s.putting.at = l
	}
}

// shareRefused is how often in a row the hub may have said that a port is taken before that is the end, while nothing was shared yet.
const shareRefused = 4

// watch shares, says where, and shows what passes until ctx ends.
func (s *sharing) watch(ctx context.Context) error {
	select {
	case <-s.table.Ready():
	case <-ctx.Done():
		return nil
	}
	ctx, stop := context.WithCancel(ctx)
	defer s.asking.Wait()
	defer stop()
	s.settings.opened(ctx)
	if problem := s.settings.agent.resident.problem(); problem != "" && ctx.Err() == nil {
		return errors.New(problem)
	}
	s.voice.say(shareEvent{State: "connecting", Hub: s.settings.agent.address()})
	s.began = time.Now()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	var before forward.Stats
	last := time.Now()
	for n := 0; ctx.Err() == nil; n++ {
		if err := s.hubNews(); err != nil {
			return err
		}
		if err := s.putNext(ctx); err != nil {
			if ctx.Err() != nil {
				return nil //nolint:nilerr // ended by the user
			}
			return err
		}
		if err := s.portNews(); err != nil {
			return err
		}
		if n%5 == 0 {
			s.targetNews(ctx)
		}
		if now := time.Now(); n%10 == 0 {
			sum := s.sum()
			s.voice.screen.update(liveLine(sum, before, now.Sub(last)))
			before, last = sum.Stats, now
		}
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
	}
	return nil
}

// hubNews says what has changed about the hub. An error is that it does not want this agent, which was never there.
func (s *sharing) hubNews() error {
	hub := s.settings.agent.hub()
	state := s.settings.agent.state()
	if hub == nil {
		return nil
	}
	if state.Up {
		if s.ever && !s.up {
			s.voice.say(shareEvent{State: "connected", Hub: s.settings.agent.address(), Transport: hub.Transport()})
		}
		s.ever, s.up, s.said = true, true, ""
		return nil
	}
	event := shareEvent{State: "connecting", Detail: strings.TrimPrefix(state.Why, theHub+": ")}
	no := hub.Refusal()
	switch {
	case no != nil && !s.ever:
		return advise(fmt.Errorf("the hub refuses: %s", plain(no.Error())), refusalHint(no.Code))
	case no != nil:
		event.State = "refused"
	case s.ever:
		event.State = "reconnecting"
	}
	if s.up = false; !s.ever && hub.Trying() { // which may take a moment; what is wrong with a part of it is told when it takes longer
		trouble := s.settings.agent.dials().Trouble()
		if trouble == nil || time.Since(s.began) < shareSilence {
			return nil
		}
		event.Detail = trouble.Error()
	}
	if said, _, _ := strings.Cut(event.State+" "+event.Detail, "; next try in"); said != s.said {
		s.voice.say(event)
		s.said = said
	}
	return nil
}

// shareSilence is how long it takes until it is told why connecting takes so long.
const shareSilence = 2 * time.Second

// refusalHint is what to do about a hub that lets this agent not in.
func refusalHint(code tunnel.Code) string {
	switch code {
	case tunnel.Version:
		return "`fairlead version` on both machines shows which is the older one"
	case tunnel.Busy:
		return "each machine, and each --state, joins by a token of its own: `fairlead agents token` on the hub"
	}
	return "`fairlead agents token` on the hub prints the command that makes this machine its agent, again or for the first time"
}

// putNext shares one more port when the one before has had its answer: in this order the hub gives each the port that it had.
func (s *sharing) putNext(ctx context.Context) error {
	for _, one := range s.all {
		if one.put {
			if one.at != nil && s.up && one.no == nil && !one.at.State().Up {
				return nil
			}
			continue
		}
		s.mu.Lock()
		s.putting = one
		s.mu.Unlock()
		_, err := s.table.Put(ctx, one.f)
		s.mu.Lock()
		s.putting = nil
		s.mu.Unlock()
		if one.put = true; err != nil {
			return err
		}
		return nil
	}
	return nil
}

// portNews says what has changed about ports. An error is the end.
func (s *sharing) portNews() error {
	news := make([]*shareEvent, len(s.all))
	for i, one := range s.all {
		news[i] = s.newsOf(one)
	}
	end := s.allRefused()
	for _, event := range news {
		if event != nil && (end == nil || s.voice.json || len(s.all) > 1) { // else the error says it
			s.voice.say(*event)
		}
	}
	return end
}

// newsOf is what has changed about a port, or nil.
func (s *sharing) newsOf(one *sharedPort) *shareEvent {
	if !one.put || !s.up {
		return nil
	}
	event := &shareEvent{State: "waiting", To: one.f.To[0].String(), Detail: "the hub has not answered yet"}
	switch {
	case one.at == nil:
		st := s.status(one)
		if st.State != forward.StateFailed {
			return nil
		}
		event.State, event.Detail, one.no = "refused", st.Detail, errors.New(st.Detail)
	case one.at.State().Up:
		one.no, one.since = nil, time.Time{}
		event.State, event.Detail, event.URL = "ready", "", s.url(one)
	default:
		one.no = nil
		if times, no := one.at.Refused(); times > 0 {
			event.State, event.Detail, one.no = "refused", no.Error(), no
		}
	}
	said := event.State + " " + event.Detail + event.URL
	if said == one.said || event.State == "waiting" && s.voice.quiet(one) {
		return nil
	}
	one.said = said
	return event
}

// allRefused is the end of sharing when the hub wants none of the ports, none was ever shared, and that will not change.
func (s *sharing) allRefused() error {
	var why error
	for _, one := range s.all {
		if one.no == nil {
			return nil
		}
		var said *tunnel.Error
		if one.at != nil && errors.As(one.no, &said) && said.Code != tunnel.Refused && said.Code != tunnel.Unfit {
			if times, _ := one.at.Refused(); times < shareRefused {
				return nil
			}
		}
		if one.at != nil && one.at.Ever() {
			return nil
		}
		why = one.no
	}
	return advise(errors.New(plain(why.Error())), "another --listen or --host may do; at the hub, `fairlead agents limit NAME` shows and changes what this agent may")
}

// status is how the table has a port.
func (s *sharing) status(one *sharedPort) table.Status {
	return statusOf(s.table.Snapshot(), one.f.Name)
}

// sum is how all ports are doing together.
func (s *sharing) sum() (sum table.Status) {
	sum.State = forward.StateWaiting
	for _, st := range s.table.Snapshot() {
		if st.State == forward.StateUp {
			sum.State = forward.StateUp
		}
		sum.Stats.Open += st.Stats.Open
		sum.Stats.Total += st.Stats.Total
		sum.Stats.Refused += st.Stats.Refused
		sum.Stats.BytesIn += st.Stats.BytesIn
		sum.Stats.BytesOut += st.Stats.BytesOut
		if sum.Stats.Note == "" {
			sum.Stats.Note = st.Stats.Note
		}
	}
	return sum
}

// url is what a visitor types, as far as it is known here how the hub is called.
func (s *sharing) url(one *sharedPort) string {
	host, _, err := net.SplitHostPort(s.settings.agent.address())
	if err != nil {
		host = "hub"
	}
	port := portRange(one.f.Listen).First
	if at, err := netip.ParseAddrPort(one.at.address().String()); err == nil {
		port = at.Port()
		if !at.Addr().IsUnspecified() {
			host = at.Addr().String()
		}
	}
	if len(one.f.Hosts) == 0 {
		return one.f.Listen.Networks.String() + "://" + net.JoinHostPort(host, strconv.Itoa(int(port)))
	}
	names := make([]string, len(one.f.Hosts))
	for i, name := range one.f.Hosts {
		names[i] = siteURL(name, port, one.f.Site.TLS)
	}
	return strings.Join(names, " ")
}

// siteURL is how a site is called.
func siteURL(name string, port uint16, ends forward.TLS) string {
	scheme, usual := "http", uint16(80)
	if port == 443 || ends != forward.TLSPass && port != 80 {
		scheme, usual = "https", 443
	}
	if port != usual {
		name = net.JoinHostPort(name, strconv.Itoa(int(port)))
	}
	return scheme + "://" + name
}
