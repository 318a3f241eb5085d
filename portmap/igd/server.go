package igd

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/fairlead-net/fairlead/portmap"
)

// Options is what a server is made of. Desk and Places are needed.
type Options struct {
	Desk   portmap.Desk
	Spec   portmap.Spec
	Places func() []portmap.Place // which are served now; asked every second
	Opened func()                 // called when the places that there are at the start are served, or cannot be; nil: nobody wants to know
	Log    *slog.Logger           // nil: none

	// ID is what the UUIDs of the device and the paths of its texts are made of, by a hash: something secret that stays the same, so that
	// clients know the device again after a restart. "": they are drawn anew each time.
	ID      string
	Name    string // shown to people; "": Fairlead
	Version string // of this program; "": 0

	Link     func() Link                               // of the connection to the outside; nil: nothing is known of it
	Packets  func(portmap.Mapping) (n uint64, ok bool) // that came in through a pinhole; nil: nobody counts them
	SameHost func(a, b netip.Addr) bool                // whether two addresses are one neighbour's; nil: equal ones are
}

// A Link is what is known of the connection to the outside.
type Link struct {
	Up, Down              uint32 // bits per second; 0: not known
	BytesOut, BytesIn     uint64
	PacketsOut, PacketsIn uint64
}

// lookEvery is how often the server looks whether its places are others.
const lookEvery = time.Second

// A Server answers clients in its places. Make it with New, and run it once.
type Server struct {
	Options
	started time.Time
	token   string // of all paths
	devices [3]*device
	batch   batch
	events  events
	guests  guests
	holes   pinholes
	lists   lists
	port    portMemory
}

// New makes a server that does nothing yet.
func New(o Options) *Server {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Opened == nil {
		o.Opened = func() {}
	}
	if o.Name == "" {
		o.Name = "Fairlead"
	}
	if o.Version == "" {
		o.Version = "0"
	}
	if o.ID == "" {
		o.ID = rand.Text()
	}
	if o.SameHost == nil {
		o.SameHost = func(a, b netip.Addr) bool { return a == b }
	}
	s := &Server{Options: o, started: time.Now()}
	s.token = s.secret("path")[:20]
	s.port.want = o.Spec.HTTPPort
	s.batch.init(o.Desk)
	s.events.init(s)
	s.guests.init()
	s.holes.init()
	for version := 1; version <= 2; version++ {
		s.devices[version] = newDevice(s, version)
	}
	return s
}

// secret is something made of the ID, for one purpose.
func (s *Server) secret(purpose string) string {
	sum := sha256.Sum256([]byte("fairlead igd " + purpose + "\x00" + s.ID))
	return hex.EncodeToString(sum[:])
}

// deviceFor is the device that clients of a family see. Pinholes are version 2's, so over IPv6 it is that; over IPv4 it is what the
// operator said, since some clients turn away from version 2.
func (s *Server) deviceFor(addr netip.Addr) *device {
	if addr.Is4() && s.Spec.IGD != 2 {
		return s.devices[1]
	}
	return s.devices[2]
}

// Run serves until ctx ends, says goodbye, and returns when everything that it started has ended. The error is ctx's.
func (s *Server) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	wg.Go(func() { s.batch.run(ctx) })
	wg.Go(func() { s.events.run(ctx) })
	s.visit(ctx)
	wg.Wait()
	return ctx.Err()
}

// A stay is a site that is being served.
type stay struct {
	place  portmap.Place
	cancel context.CancelFunc
	opened chan struct{} // closed when it is served
	ended  chan struct{}
	err    error // why it ended by itself; read after ended
}

func (t *stay) stop() {
	t.cancel()
	<-t.ended
}

// visit serves the places that there are, as they come and go, until ctx ends.
func (s *Server) visit(ctx context.Context) {
	stays := map[int]*stay{} // by the index of the interface
	said := map[int]string{} // what was last wrong there, so that the log has it once
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for first := true; ; first = false {
		places := s.Places()
		for index, t := range stays {
			i := slices.IndexFunc(places, func(p portmap.Place) bool { return p.Interface.Index == index })
			ended := false
			select {
			case <-t.ended: // it could not begin, or its interface went away: try again
				ended = true
				if t.err == nil { // or ctx has just ended, and it with it
					break
				}
				if text := t.err.Error(); said[index] != text {
					s.Log.Warn("UPnP is not served on an interface; it is tried again", keyInterface, t.place.Interface.Name, keyError, t.err)
					said[index] = text
				}
			default:
			}
			if ended || i < 0 || !samePlace(places[i], t.place) {
				t.stop()
				delete(stays, index)
			}
		}
		for _, p := range places {
			if stays[p.Interface.Index] == nil && len(p.Addrs) > 0 {
				p.Addrs = slices.Clone(p.Addrs)
				inner, cancel := context.WithCancel(ctx)
				t := &stay{place: p, cancel: cancel, opened: make(chan struct{}), ended: make(chan struct{})}
				stays[p.Interface.Index] = t
				go func() {
					defer close(t.ended)
					t.err = s.serve(inner, p, func() { close(t.opened) })
				}()
			}
		}
		if first {
			for _, t := range stays {
				select {
				case <-t.opened:
				case <-t.ended:
				}
			}
			s.Opened()
		}
		select {
		case <-ctx.Done():
			for _, t := range stays {
				t.stop()
			}
			return
		case <-tick.C:
		}
	}
}

// samePlace reports whether two places are the same, in whatever order their addresses are.
func samePlace(a, b portmap.Place) bool {
	lacks := func(list []netip.Prefix) func(netip.Prefix) bool {
		return func(p netip.Prefix) bool { return !slices.Contains(list, p) }
	}
	return a.Interface.Name == b.Interface.Name && !slices.ContainsFunc(a.Addrs, lacks(b.Addrs)) && !slices.ContainsFunc(b.Addrs, lacks(a.Addrs))
}

// portMemory keeps the port of HTTP the same on all addresses and over changes of places, where that can be.
type portMemory struct {
	mu   sync.Mutex
	want uint16 // 0: any
	last uint16
}

func (m *portMemory) get() uint16 {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.want != 0 {
		return m.want
	}
	return m.last
}

func (m *portMemory) set(port uint16) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.last = port
}

// fixed reports whether the operator named the port.
func (m *portMemory) fixed() bool { return m.want != 0 }
