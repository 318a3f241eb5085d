package api

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/fairlead-net/fairlead/config"
	"github.com/fairlead-net/fairlead/forward"
	"github.com/fairlead-net/fairlead/portmap/publish"
	"github.com/fairlead-net/fairlead/table"
)

// What one request may cost. A connection that sends nothing, or that does not read its answer, is closed in time for the
// next; together with MaxConns that bounds what a flood can hold.
const (
	maxRunning   = 16       // requests being answered at once; more are told to come back
	maxHeader    = 16 << 10 // bytes
	maxBody      = 1 << 20  // bytes, of anything but a file
	maxFileBody  = 17 << 20 // bytes: a file of 16 MiB and its JSON
	maxFiles     = 2        // files held in memory at once
	headerTime   = 2 * time.Second
	readTime     = 30 * time.Second
	writeTime    = time.Minute
	idleTime     = 30 * time.Second
	shutdownTime = 2 * time.Second
)

// Table is the part of table.Table that the control interface needs.
type Table interface {
	ReplaceFile(ctx context.Context, cfg *config.Config) (table.Change, error)
	ReplaceUntilConfirmed(ctx context.Context, cfg *config.Config, d time.Duration) (table.Change, error)
	Confirm(ctx context.Context) error
	Pending() (until time.Time, ok bool)
	Put(ctx context.Context, f *forward.Forward) (table.Status, error)
	Delete(ctx context.Context, name string) error
	Snapshot() []table.Status // sorted by name
}

// Sessions is where live sessions are listed and ended, whichever carrier has them.
type Sessions interface {
	Sessions(name string) ([]forward.Session, error) // of one forward, or of all with ""
	Kill(id string) error                            // wraps ErrNoSession when there is none
}

// Leases is where leases are approved and denied: one by its name, or all that a device has and will have, by its hardware or
// IP address. What was decided is remembered until it is forgotten. The errors wrap ErrNoLease when nobody is meant.
type Leases interface {
	Approve(ctx context.Context, which string) (Judged, error)
	Deny(ctx context.Context, which string) (Judged, error)
	// Verdicts is what is remembered, sorted by device.
	Verdicts() []Verdict
	// Forget has nothing remembered of a lease, of one port of a device ("02:00:5e:10:00:01/udp/3074") or of all of a device, and
	// returns what was.
	Forget(ctx context.Context, which string) ([]Verdict, error)
}

// Options is what a Server works with. What does not say otherwise is needed.
type Options struct {
	Table    Table
	Sessions Sessions
	Leases   Leases
	Agents   Agents // nil: there is no hub
	// Wake sends magic packets to the cards of a forward that names some. The error says why none could be sent.
	Wake func(ctx context.Context, f *forward.Forward) ([]Woken, error)
	// Published is what has become of a forward that gateways upstream are asked for. nil: none is.
	Published func(name string) (publish.State, bool)
	// Problems is what is wrong with this host's part that is no forward's fault, a line each: the gateway, a server. nil: nothing is.
	Problems func() []string
	// Down takes everything away that would outlive the daemon. When it returns nil the Server answers and Run ends.
	Down func(ctx context.Context) error
	// Upgrade prepares the daemon to be replaced by a program, given by its absolute path. When it returns nil the Server answers
	// and Run ends.
	Upgrade func(ctx context.Context, binary string) error
	Version Version
	Log     *slog.Logger
}

// A Server answers the control interface.
type Server struct {
	Options
	running   chan struct{}  // a place for each request that is being answered
	answering sync.WaitGroup // the same requests, to be waited for
	files     chan struct{}  // a place for each file in memory
	down      chan struct{}  // closed when a client has taken everything down
	isDown    sync.Once
}

// NewServer returns a Server that Run has yet to start.
func NewServer(o Options) *Server {
	if o.Agents == nil {
		o.Agents = noAgents{}
	}
	return &Server{
		Options: o,
		running: make(chan struct{}, maxRunning), files: make(chan struct{}, maxFiles), down: make(chan struct{}),
	}
}

// Run serves on ln until ctx ends or a client has asked for down. It closes ln; requests that are being answered then have a moment to end.
func (s *Server) Run(ctx context.Context, ln net.Listener) error {
	base, cancel := context.WithCancel(ctx)
	defer cancel()
	srv := &http.Server{
		Handler: s.guard(s.routes()), ReadHeaderTimeout: headerTime, ReadTimeout: readTime, WriteTimeout: writeTime,
		IdleTimeout: idleTime, MaxHeaderBytes: maxHeader, ErrorLog: slog.NewLogLogger(s.Log.Handler(), slog.LevelDebug),
		BaseContext: func(net.Listener) context.Context { return base },
	}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(ln) }()

	select {
	case <-ctx.Done():
	case <-s.down:
	case err := <-served:
		return fmt.Errorf("control socket: %w", errors.Join(err, srv.Close()))
	}
	grace, stop := context.WithTimeout(context.WithoutCancel(ctx), shutdownTime)
	defer stop()
	if srv.Shutdown(grace) != nil {
		cancel()
		srv.Close()
		s.answering.Wait()
	}
	if err := <-served; !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// guard turns away what no client of ours sends, before anything is read. A page in a browser cannot open a unix socket,
// but something that relays to one can be talked into it; such requests carry an Origin or the Host of the page.
func (s *Server) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Host != hostName:
			writeError(w, refuse(http.StatusForbidden, CodeForbidden, "the Host of a request is \""+hostName+"\"",
				"curl --unix-socket PATH http://"+hostName+"/v1/status"))
			return
		case r.Header.Get("Origin") != "" || r.Header.Get("Sec-Fetch-Site") != "":
			writeError(w, refuse(http.StatusForbidden, CodeForbidden, "the control socket is not for browsers", ""))
			return
		}
		select {
		case s.running <- struct{}{}:
			s.answering.Add(1)
			defer func() {
				<-s.running
				s.answering.Done()
			}()
		default:
			writeError(w, refuse(http.StatusServiceUnavailable, CodeBusy, "too many requests at once", "try again in a moment"))
			return
		}
		w.Header().Set("Cache-Control", "no-store")
		next.ServeHTTP(w, r)
	})
}

func (s *Server) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/status", s.status)
	mux.HandleFunc("GET /v1/sessions", s.sessions)
	mux.HandleFunc("DELETE /v1/sessions/{id}", s.kill)
	mux.HandleFunc("GET /v1/leases", s.leases)
	mux.HandleFunc("GET /v1/verdicts", s.verdicts)
	mux.HandleFunc("DELETE /v1/verdicts/{which}", s.forget)
	mux.HandleFunc("GET /v1/problems", s.problems)
	mux.HandleFunc("POST /v1/leases/{which}/approve", s.judge(s.Leases.Approve))
	mux.HandleFunc("POST /v1/leases/{which}/deny", s.judge(s.Leases.Deny))
	s.agentRoutes(mux)
	mux.HandleFunc("POST /v1/apply", s.apply)
	mux.HandleFunc("POST /v1/confirm", s.confirm)
	mux.HandleFunc("PUT /v1/forwards/{name}", s.put)
	mux.HandleFunc("DELETE /v1/forwards/{name}", s.remove)
	mux.HandleFunc("POST /v1/forwards/{name}/wake", s.wake)
	mux.HandleFunc("POST /v1/down", s.takeDown)
	mux.HandleFunc("POST /v1/upgrade", s.takeUpgrade)
	mux.HandleFunc("GET /v1/version", s.version)
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		writeError(w, refuse(http.StatusNotFound, CodeNotFound, "there is no "+r.Method+" "+r.URL.Path, ""))
	})
	return mux
}
