package httpproxy

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/fairlead-net/fairlead/relay/head"
)

// A session is one client: a chain of requests. net/http serves one after the other, so that nothing here needs a lock but
// the targets.
type session struct {
	proxy    *Proxy
	env      head.Env
	conn     *conn
	running  sync.WaitGroup // handlers
	requests int
	login    string // the Proxy-Authorization that was right
	failure  error  // of the last request
	outcome  head.Outcome
	forwarding
	targets
}

// forwarding is what carries requests with an absolute URI; it is made for the first of them.
type forwarding struct {
	dial      func(ctx context.Context, network, addr string) (net.Conn, error)
	transport *http.Transport
	requester *httputil.ReverseProxy
}

// ServeHTTP serves one request.
func (s *session) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.running.Add(1)
	defer s.running.Done()
	s.requests++
	s.failure = nil
	switch {
	case r.Method != http.MethodConnect && !r.URL.IsAbs():
		s.serveOrigin(w, r)
	case s.proxy.options.PACOnly:
		s.refuse(w, http.StatusForbidden, errors.New("this port is a SOCKS proxy; an HTTP proxy it is not"))
	case !s.logIn(w, r):
	case s.loops(r):
		s.refuse(w, http.StatusLoopDetected, errors.New("the request has been through this proxy already"))
	case r.Method == http.MethodConnect:
		s.connect(w, r)
	default:
		s.forward(w, r)
	}
}

// serveOrigin answers what is asked as if this were a web server: the file for browsers, and nothing else.
func (s *session) serveOrigin(w http.ResponseWriter, r *http.Request) {
	isFile := r.URL.Path == "/proxy.pac" || r.URL.Path == "/wpad.dat"
	switch {
	case s.proxy.options.PAC == nil || !isFile:
		what := "this is a proxy, not a web server; have your client use it as one"
		if s.proxy.options.PACOnly {
			what = "this is a SOCKS proxy; have your client use it as one"
		}
		s.refuse(w, http.StatusBadRequest, errors.New(what))
		return
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		w.Header().Set("Allow", "GET, HEAD")
		s.refuse(w, http.StatusMethodNotAllowed, fmt.Errorf("%s is for reading", r.URL.Path))
		return
	}
	called := r.Host
	if called == "" { // HTTP/1.0
		called = s.conn.LocalAddr().String()
	} else if _, _, err := net.SplitHostPort(called); err != nil {
		called = net.JoinHostPort(strings.Trim(called, "[]"), "80")
	}
	text, err := s.proxy.options.PAC(called)
	if err != nil {
		s.refuse(w, http.StatusBadRequest, err)
		return
	}
	s.conn.carry()
	w.Header().Set("Content-Type", "application/x-ns-proxy-autoconfig")
	w.Header().Set("Content-Length", strconv.Itoa(len(text)))
	w.Header().Set("Cache-Control", "no-cache")
	w.Write(text) //nolint:errcheck // the client has gone
}

// errWanted is what a client is told who has not logged in yet.
var errWanted = errors.New("log in first: this proxy wants a name and a password")

// logIn reports whether the client may go on, and answers if not. Each request says who sends it (RFC 9110, section 11.7);
// what was right once on this connection is not asked again.
func (s *session) logIn(w http.ResponseWriter, r *http.Request) bool {
	said := r.Header.Get("Proxy-Authorization")
	if !s.env.NeedsLogin() || said != "" && said == s.login {
		s.conn.settle()
		return true
	}
	err, answer := fmt.Errorf("the client did not log in: %w", head.ErrLogin), errWanted
	if user, password, ok := basic(said); ok {
		if err = s.env.Login(r.Context(), user, password); err == nil {
			// Connections to targets were made with the rights of whoever was logged in before.
			s.closeTargets()
			s.login = said
			s.conn.settle()
			return true
		}
		answer = head.ErrLogin
		w.Header().Set("Connection", "close")
		if !errors.Is(err, head.ErrLogin) {
			s.refuse(w, http.StatusInternalServerError, errors.New("the login could not be checked"))
			s.failure = err // for the log, and not for somebody who is not known yet
			return false
		}
	}
	w.Header().Set("Proxy-Authenticate", `Basic realm="fairlead", charset="UTF-8"`)
	s.refuse(w, http.StatusProxyAuthRequired, answer)
	s.failure = err
	return false
}

// basic reads a name and a password (RFC 7617).
func basic(said string) (user, password string, ok bool) {
	scheme, coded, ok := strings.Cut(said, " ")
	if !ok || !strings.EqualFold(scheme, "Basic") {
		return "", "", false
	}
	text, err := base64.StdEncoding.DecodeString(strings.TrimLeft(coded, " "))
	if err != nil {
		return "", "", false
	}
	return strings.Cut(string(text), ":")
}

// loops reports whether a request has been here before.
func (s *session) loops(r *http.Request) bool {
	for _, line := range r.Header.Values("Via") {
		for entry := range strings.SplitSeq(line, ",") {
			if slices.Contains(strings.Fields(entry), s.proxy.via) {
				return true
			}
		}
	}
	return false
}

// connect opens a tunnel (RFC 9110, section 9.3.6).
func (s *session) connect(w http.ResponseWriter, r *http.Request) {
	host, port, err := splitTarget(r.Host)
	if err != nil {
		s.refuse(w, http.StatusBadRequest, err)
		return
	}
	target, err := s.env.Dial(r.Context(), "tcp", host, port)
	if err != nil {
		s.refuse(w, statusOf(err), err)
		return
	}
	_, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		target.Close()
		s.refuse(w, http.StatusInternalServerError, err)
		return
	}
	ahead, _ := buffered.Reader.Peek(buffered.Reader.Buffered()) // no error: it is there
	if _, err := io.WriteString(s.conn, "HTTP/1.1 200 Connection established\r\n\r\n"); err != nil {
		target.Close()
		s.failure = fmt.Errorf("answer the client: %w", err)
		return
	}
	s.outcome = head.Outcome{Target: target, Ahead: slices.Clone(ahead)}
}

// splitTarget cuts "host:port".
func splitTarget(s string) (host string, port uint16, err error) {
	host, digits, err := net.SplitHostPort(s)
	if err != nil {
		return "", 0, errors.New("the target of the request is no host:port")
	}
	n, err := strconv.ParseUint(digits, 10, 16)
	if err != nil || n == 0 {
		return "", 0, fmt.Errorf("%q is no port; ports are 1 to 65535", digits)
	}
	if host, err = head.Host(host); err != nil {
		return "", 0, err
	}
	return host, uint16(n), nil
}

// refuse answers that a request is not served, and why.
func (s *session) refuse(w http.ResponseWriter, status int, why error) {
	s.failure = why
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	fmt.Fprintf(w, "fairlead: %v\n", why)
}

// statusOf is the status for what could not be dialled.
func statusOf(err error) int {
	switch head.ReasonOf(err) {
	case head.Denied:
		return http.StatusForbidden
	case head.TimedOut:
		return http.StatusGatewayTimeout
	}
	return http.StatusBadGateway
}
