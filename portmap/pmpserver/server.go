package pmpserver

import (
	"context"
	"log/slog"
	"net"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/fairlead-net/fairlead/portmap"
	"github.com/fairlead-net/fairlead/portmap/pcp"
)

// Options are what a server is made of.
type Options struct {
	Desk   portmap.Desk
	Places func() []portmap.Place // the interfaces that are served just now; called for each batch, from anywhere, so it is to be quick
	Spec   portmap.Spec           // Protocols and ThirdParty are what matters here; the rest is the Desk's
	Opened func()                 // called when clients are heard; nil: nobody wants to know
	Log    *slog.Logger           // nil: none
	Port   uint16                 // 0: 5351
	Rate   int                    // requests a second that one client gets answers to; 0: 20000
}

const (
	defaultRate = 20_000
	faultRate   = 50 // answers a second to what makes no sense, for one client: nobody needs more of them
)

// A Server is made with New.
type Server struct {
	o           Options
	pcp, natpmp bool // are answered
	queue       *queue
	seen        counters
	heard       heard
}

// Stats is what a server has counted since it was made.
type Stats struct {
	Requests uint64 // that came in by an interface that is served
	Answers  uint64 // that were sent
	Foreign  uint64 // messages that came in elsewhere, were not for one host, or not from one of the network there; they are dropped
	Limited  uint64 // requests of clients that sent too many, which are dropped
	Crowded  uint64 // requests for which the queue had no room, which are dropped
}

type counters struct{ requests, answers, foreign, limited, crowded atomic.Uint64 }

// New makes a server that has not started.
func New(o Options) *Server {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Opened == nil {
		o.Opened = func() {}
	}
	if o.Port == 0 {
		o.Port = pcp.ServerPort
	}
	if o.Rate <= 0 {
		o.Rate = defaultRate
	}
	return &Server{
		o: o, queue: newQueue(),
		pcp: slices.Contains(o.Spec.Protocols, portmap.PCP), natpmp: slices.Contains(o.Spec.Protocols, portmap.NATPMP),
	}
}

// Stats may be called at any time, from anywhere.
func (s *Server) Stats() Stats {
	c := &s.seen
	return Stats{c.requests.Load(), c.answers.Load(), c.foreign.Load(), c.limited.Load(), c.crowded.Load()}
}

// Run serves until ctx ends, and returns nil then. It fails when the port cannot be had. It returns when everything that it started has
// ended.
func (s *Server) Run(ctx context.Context) error {
	doors, err := s.open(ctx)
	if err != nil {
		return err
	}
	defer func() {
		for _, d := range doors {
			d.conn.Close()
		}
	}()
	s.o.Opened()
	group, ctx := errgroup.WithContext(ctx)
	for _, d := range doors {
		group.Go(func() error { return s.attend(ctx, d) })
	}
	group.Go(func() error { return s.clerk(ctx, doors) })
	group.Go(func() error { return s.herald(ctx, doors) })
	if s.pcp {
		group.Go(func() error { return s.update(ctx, doors) })
	}
	// A read that waits ends at once with its deadline; the sockets stay open for the answers that are on their way.
	stop := context.AfterFunc(ctx, func() {
		for _, d := range doors {
			_ = d.conn.SetReadDeadline(time.Unix(1, 0))
		}
	})
	defer stop()
	err = group.Wait()
	s.queue.clear() // what nobody will answer
	return err
}

// place finds the one that an interface is of. Places are few.
func place(places []portmap.Place, index int) *portmap.Place {
	if i := slices.IndexFunc(places, func(p portmap.Place) bool { return p.Interface.Index == index }); i >= 0 && index > 0 {
		return &places[i]
	}
	return nil
}

// hostless reports whether no answer can come from an address: messages to a group or a whole network are nobody's.
func hostless(ip net.IP) bool {
	return len(ip) == 0 || ip.IsMulticast() || ip.IsUnspecified() || ip.Equal(net.IPv4bcast)
}
