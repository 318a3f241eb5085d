package relay

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/fairlead-net/fairlead/forward"
	"github.com/fairlead-net/fairlead/relay/vhost"
)

// Sites makes what is done for the clients of a forward with names, once for each; an error is why the forward fails.
type Sites func(f *forward.Forward) (*vhost.Site, error)

// siteServer is what ends HTTP, started by the first client whose HTTP is to be ended.
type siteServer struct {
	mu     sync.Mutex
	server *vhost.Server
	over   bool
}

func (r *Relay) siteServer() *vhost.Server {
	s := &r.sites
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.server == nil && !s.over {
		s.server = vhost.NewServer()
		r.wg.Go(s.server.Run)
	}
	return s.server
}

func (s *siteServer) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.over = true
	if s.server != nil {
		s.server.Close()
	}
}

// findSite makes the site of a forward with names.
func (r *Relay) findSite(c *change) (err error) {
	make := r.makeSite
	if make == nil {
		make = func(f *forward.Forward) (*vhost.Site, error) { return vhost.NewSite(f, vhost.Keepers{}) }
	}
	c.site, err = make(c.f)
	return err
}

// A calling is whom a client calls by name, on a port where that matters.
type calling struct {
	known bool
	host  string // "" is nobody by name
	begun *vhost.Opening
}

// listenTo reads from a client on a port that is shared by name whom it calls. A client of HTTP says so in each request.
func (s *stream) listenTo(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { _ = s.near.Close() })
	near := s.near
	if s.begun != nil {
		near = &retold{Conn: near, talk: *s.begun}
	}
	o, err := vhost.Open(near)
	if !stop() {
		err = context.Cause(ctx)
	}
	if err != nil {
		return err
	}
	s.begun = nil // it is a part of what was said
	s.calling, s.host = calling{known: true, host: o.Host, begun: &o}, o.Host
	return nil
}

// siteOf is the site of a task's forward, if that is still f.
func (t *task) siteOf(f *forward.Forward) *vhost.Site {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.f != f {
		return nil
	}
	return t.site
}

// A front is a client whose HTTP is ended here, with the forwards that its requests are for.
//
//	accepted ─► says what it speaks ─► each request: Visit ─► entered at that forward ─► the connection ends: all left
type front struct {
	relay    *Relay
	listener *listener
	stream   *stream
	said     proxyHeader     // of it
	ctx      context.Context //nolint:containedctx // the connection's

	mu     sync.Mutex
	visits []*visit
	over   bool
}

// A visit is the session of one client connection at one forward.
type visit struct {
	session
	front *front
	site  *vhost.Site

	mu        sync.Mutex
	far       map[net.Conn]bool // open connections to targets
	reachedAt string
	over      bool
}

// serveSites has HTTP served to a client, whose TLS is ended with site where that is not nil, until it is gone.
func (r *Relay) serveSites(ctx context.Context, l *listener, s *stream, said proxyHeader, site *vhost.Site) {
	f := &front{relay: r, listener: l, stream: s, said: said, ctx: ctx}
	server := r.siteServer()
	if server == nil {
		reset(s.near)
		return
	}
	r.slow.Add(-1)
	defer r.slow.Add(1)
	defer f.end()
	stop := context.AfterFunc(ctx, func() { reset(s.near) })
	defer stop()
	if site != nil {
		server.ServeTLSConn(s.near, *s.calling.begun, site, f)
		return
	}
	server.ServeHTTPConn(s.near, *s.calling.begun, f)
}

func (f *front) Client() netip.AddrPort { return f.stream.client }

// Visit takes the client in at the forward that has a name now, unless it is there already.
func (f *front) Visit(host string) (vhost.Visit, error) {
	for {
		t, found := f.relay.matchCalled(f.listener, f.stream.peer, f.stream.local, calling{known: true, host: host})
		if found == nil || found.Dynamic() != forward.HeadNone || found.Helper != forward.HelperNone {
			t.refuse()
			return nil, vhost.ErrNoSite
		}
		v, err := f.enter(t, found, host)
		switch err {
		case nil:
			return v, nil
		case errChanged:
			continue
		case errFull:
			t.refuse()
		}
		return nil, err
	}
}

func (f *front) enter(t *task, found *forward.Forward, host string) (*visit, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.over {
		return nil, net.ErrClosed
	}
	for _, v := range f.visits {
		if v.f == found {
			return v, nil
		}
	}
	s := f.stream
	v := &visit{front: f, far: map[net.Conn]bool{}, session: session{
		id: f.relay.nextID.Add(1), place: s.place, network: s.network, since: time.Now().UnixNano(),
		client: s.client, peer: s.peer, local: s.local, host: host,
	}}
	if v.site = t.siteOf(found); v.site == nil {
		if found.ByName() {
			return nil, errChanged
		}
		v.site = vhost.Plain()
	}
	if err := t.enter(v, found); err != nil {
		return nil, err
	}
	f.visits = append(f.visits, v)
	return v, nil
}

// end lets the client leave wherever it was.
func (f *front) end() {
	f.mu.Lock()
	f.over = true
	visits := f.visits
	f.mu.Unlock()
	for _, v := range visits {
		v.end()
	}
}

func (v *visit) end() {
	v.mu.Lock()
	v.over = true
	for conn := range v.far {
		_ = conn.Close()
	}
	v.mu.Unlock()
	v.task.leave(v)
}

func (v *visit) Site() *vhost.Site { return v.site }

func (v *visit) Login(ctx context.Context, name, password string) error {
	if v.front.relay.login == nil {
		return fmt.Errorf("%s: nobody may log in", v.f.Name)
	}
	_, err := v.front.relay.login(ctx, v.f, v.client.Addr(), name, password)
	return err
}

// Dial connects to a target as a session of the forward does. Each connection begins with a PROXY header where that is asked for.
func (v *visit) Dial(ctx context.Context) (net.Conn, error) {
	r := v.front.relay
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(v.front.ctx, cancel)()
	d, err := r.reach(ctx, &v.session, v.f, nil)
	if err == nil && v.f.SendProxy != 0 {
		if err = sendProxyHeader(d.conn, v.f.SendProxy, v.front.said); err != nil {
			reset(d.conn)
			err = &DialError{Target: d.where, Err: err}
		}
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	switch {
	case err != nil:
		if ctx.Err() == nil {
			r.noteDial(v.task, err)
		}
		return nil, err
	case v.over:
		reset(d.conn)
		return nil, net.ErrClosed
	}
	v.reach(d)
	v.far[d.conn] = true
	r.held.Add(1)
	return &visited{Conn: d.conn, visit: v}, nil
}

// reach notes that a target answered. The caller holds v.mu.
func (v *visit) reach(d dialled) {
	v.task.mu.Lock()
	first := !v.carried
	v.reachedAt = d.where
	v.task.mu.Unlock()
	if first {
		v.task.reached(&v.session, d.target)
	}
}

func (v *visit) where() string           { return v.reachedAt }
func (v *visit) bytes() (in, out uint64) { return v.in.Load(), v.out.Load() }
func (v *visit) kill()                   { v.front.stream.cancel() }

// visited is a connection to a target, which counts and shapes what goes through.
type visited struct {
	net.Conn
	visit *visit
	once  sync.Once
}

func (c *visited) Read(b []byte) (int, error) {
	if slice := c.visit.download.Slice(); slice > 0 && slice < len(b) {
		b = b[:slice]
	}
	n, err := c.Conn.Read(b)
	c.visit.download.await(c.visit.front.ctx, int64(n))
	c.visit.out.Add(uint64(n))
	return n, err
}

func (c *visited) Write(b []byte) (written int, err error) {
	for err == nil && written < len(b) {
		part := b[written:]
		if slice := c.visit.upload.Slice(); slice > 0 && slice < len(part) {
			part = part[:slice]
		}
		c.visit.upload.await(c.visit.front.ctx, int64(len(part)))
		var n int
		n, err = c.Conn.Write(part)
		written += n
	}
	c.visit.in.Add(uint64(written))
	return written, err
}

func (c *visited) CloseWrite() error { return closeWrite(c.Conn) }

func (c *visited) Close() error {
	c.once.Do(func() {
		c.visit.mu.Lock()
		delete(c.visit.far, c.Conn)
		c.visit.mu.Unlock()
		c.visit.front.relay.held.Add(-1)
	})
	return c.Conn.Close()
}
