package vhost

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/fairlead-net/fairlead/forward"
)

// A guest is a caller at one forward.
type guest struct {
	server    *Server
	caller    *caller
	visit     Visit
	transport *http.Transport
	proxy     *httputil.ReverseProxy
	cancel    context.CancelFunc

	mu    sync.Mutex
	login string    // the Authorization that was right
	right time.Time // when it was
	user  string    // and whose it is
}

// target is what stands for the target in requests, of which the transport looks at the name alone.
const target = "target"

func newGuest(s *Server, c *caller, v Visit) *guest {
	ctx, cancel := context.WithCancel(context.Background())
	g := &guest{server: s, caller: c, visit: v, cancel: cancel}
	g.transport = &http.Transport{
		DialContext: func(asked context.Context, _, _ string) (net.Conn, error) {
			asked, cancel := context.WithCancel(asked)
			defer cancel()
			defer context.AfterFunc(ctx, cancel)()
			conn, err := v.Dial(asked)
			if err != nil {
				return nil, &awayError{err}
			}
			return conn, nil
		},
		DisableCompression:     true, // bodies go through as they are
		MaxIdleConns:           maxIdleConns,
		MaxIdleConnsPerHost:    maxIdleConns,
		IdleConnTimeout:        idleWait,
		ExpectContinueTimeout:  idleWait, // the target says when the body may come
		MaxResponseHeaderBytes: maxAnswer,
	}
	g.proxy = &httputil.ReverseProxy{
		Transport: g.transport, FlushInterval: -1, ErrorLog: s.silent, BufferPool: s, Rewrite: g.rewrite, ErrorHandler: g.failed,
	}
	return g
}

func (g *guest) end() { g.cancel() }

// An awayError is that no target could be reached.
type awayError struct{ error }

func (e *awayError) Unwrap() error { return e.error }

// ServeHTTP serves one request, by the name in it.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c := r.Context().Value(callerKey{}).(*caller)
	if !c.begin() {
		panic(http.ErrAbortHandler)
	}
	defer c.requests.Done()
	g, err := c.guest(s, hostOf(r))
	if err != nil {
		refuse(w, statusOf(err), err)
		return
	}
	site := g.visit.Site()
	switch {
	case r.Method == http.MethodConnect:
		refuse(w, http.StatusMethodNotAllowed, errors.New("this is no proxy"))
	case c.tls == nil && site.challenge != nil && strings.HasPrefix(r.URL.Path, challengePath):
		site.challenge.ServeHTTP(w, r)
	case c.tls == nil && site.mustRedirect():
		g.redirect(w, r)
	default:
		if r, ok := g.admits(w, r); ok {
			g.serve(w, r)
		}
	}
}

// challengePath is where an authority asks whether a name is ours (RFC 8555, section 8.3).
const challengePath = "/.well-known/acme-challenge/"

func (g *guest) serve(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Expect") != "" {
		w = continued{w}
	}
	g.proxy.ServeHTTP(w, r)
}

// continued is for a client who waits until the body may come. When the target says that it may, the body is read, and
// net/http tells the client so; the target's own word would come a second time.
type continued struct{ http.ResponseWriter }

func (c continued) WriteHeader(status int) {
	if status != http.StatusContinue {
		c.ResponseWriter.WriteHeader(status)
	}
}

// Unwrap is for http.ResponseController.
func (c continued) Unwrap() http.ResponseWriter { return c.ResponseWriter }

// redirect sends a client to the same place with TLS, at its usual port where that is listened at or http:// has its usual one, else at the port that was
// called.
func (g *guest) redirect(w http.ResponseWriter, r *http.Request) {
	host := hostOf(r)
	if host == "" {
		refuse(w, http.StatusBadRequest, errors.New("the request names no host"))
		return
	}
	if port := g.visit.Site().securePort(portOf(g.caller.conn.LocalAddr())); port != 443 {
		host = net.JoinHostPort(host, strconv.Itoa(int(port)))
	}
	where := *r.URL
	where.Scheme, where.Host, where.User = "https", host, nil
	w.Header().Set("Location", where.String())
	w.Header().Set("Content-Length", "0")
	w.WriteHeader(http.StatusPermanentRedirect)
}

func portOf(a net.Addr) uint16 {
	if t, ok := a.(*net.TCPAddr); ok {
		return t.AddrPort().Port()
	}
	return 443
}

// rewrite makes of a request what goes to the target.
func (g *guest) rewrite(r *httputil.ProxyRequest) {
	r.Out.URL.Scheme, r.Out.URL.Host, r.Out.URL.User = "http", target, nil
	r.Out.URL.RawQuery = r.In.URL.RawQuery // as it was, for the target to judge
	r.Out.Host = r.In.Host
	if len(r.In.Trailer) > 0 && r.Out.Body != nil {
		dropForeign(r.In.Trailer)
		r.Out.Trailer = r.In.Trailer // it is filled as the body is read
		r.Out.Body = &trailing{r.Out.Body, r.Out.Trailer}
	}
	dropUpgrade(r.Out.Header)
	dropForeign(r.Out.Header)
	dropCookies(r.Out.Header)
	g.introduce(r.In, r.Out.Header)
	if site := g.visit.Site(); site.takesLogin() {
		if site.conf.Auth == forward.AuthBasic {
			r.Out.Header.Del("Authorization") // it is ours, and not for the target
		}
		user, _ := r.In.Context().Value(userKey{}).(string)
		r.Out.Header.Set("X-Forwarded-User", user)
	}
}

// dropUpgrade has a request stay one, whose client wants to go on in another HTTP or in TLS (RFC 9110, section 7.8, lets a server ignore that). What
// goes through after a target has agreed is not looked at any more: further requests would be in there, for any name, and from whomever they say.
func dropUpgrade(h http.Header) {
	for to := range strings.SplitSeq(h.Get("Upgrade"), ",") {
		name, _, _ := strings.Cut(strings.ToLower(strings.TrimSpace(to)), "/")
		switch name {
		case "h2c", "h2", "http", "tls":
			h.Del("Upgrade")
			h.Del("Connection") // of which all else was seen to
			h.Del("Http2-Settings")
			return
		}
	}
}

// dropForeign drops what clients say of where a request comes from: only this program knows. A header with '_' is the same to some
// targets as one with '-'.
func dropForeign(h http.Header) {
	for name := range h {
		plain := http.CanonicalHeaderKey(strings.ReplaceAll(name, "_", "-"))
		if strings.HasPrefix(plain, "X-Forwarded-") || plain == "Forwarded" || plain == "X-Real-Ip" || plain == "X-Client-Ip" {
			delete(h, name)
		}
	}
}

// trailing is a body behind which headers come, to which the same applies as to others: some targets put them together.
type trailing struct {
	io.ReadCloser
	trailer http.Header
}

func (b *trailing) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil { // they are there when the body has ended, before they are sent
		dropForeign(b.trailer)
		dropCookies(b.trailer)
	}
	return n, err
}

// introduce says who asks, for whom and how: in the headers in use, and in the one that is a standard (RFC 7239).
func (g *guest) introduce(r *http.Request, h http.Header) {
	proto := "http"
	if g.caller.tls != nil {
		proto = "https"
	}
	h.Set("X-Forwarded-Proto", proto)
	standard := "proto=" + proto
	if hostOf(r) != "" {
		h.Set("X-Forwarded-Host", r.Host)
		standard = fmt.Sprintf("host=%q;%s", r.Host, standard)
	}
	from := "unknown"
	if client := g.caller.front.Client().Addr().Unmap().WithZone(""); client.IsValid() {
		h.Set("X-Forwarded-For", client.String())
		h.Set("X-Real-Ip", client.String())
		if from = client.String(); client.Is6() {
			from = `"[` + from + `]"`
		}
	}
	h.Set("Forwarded", "for="+from+";"+standard)
}

// failed answers in place of a target that did not.
func (g *guest) failed(w http.ResponseWriter, r *http.Request, err error) {
	if r.Context().Err() != nil {
		panic(http.ErrAbortHandler) // without an answer net/http would make one up, and that is 200 OK
	}
	status := http.StatusBadGateway
	if away := new(awayError); errors.As(err, &away) {
		status = http.StatusServiceUnavailable
	}
	g.visit.Site().away(w, status)
}

// refuse answers that a request is not served, and why.
func refuse(w http.ResponseWriter, status int, why error) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	fmt.Fprintf(w, "fairlead: %v\n", why)
}

// statusOf is the status for a client that is not taken in.
func statusOf(err error) int {
	switch {
	case errors.Is(err, ErrNoSite):
		return http.StatusNotFound
	case errors.Is(err, errMisdirected):
		return http.StatusMisdirectedRequest
	case errors.Is(err, errTooMany):
		return http.StatusTooManyRequests
	}
	return http.StatusServiceUnavailable
}
