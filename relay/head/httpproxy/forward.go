package httpproxy

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httputil"
	"strconv"
	"strings"
	"sync"
)

// forward carries a request with an absolute URI to the server that it is for, and the response back.
func (s *session) forward(w http.ResponseWriter, r *http.Request) {
	switch {
	case r.URL.Scheme == "https":
		s.refuse(w, http.StatusNotImplemented, errors.New("https:// goes through a tunnel; ask for it by CONNECT"))
		return
	case r.URL.Scheme != "http":
		s.refuse(w, http.StatusNotImplemented, fmt.Errorf("%q is no scheme that this proxy knows; it is for http://", r.URL.Scheme))
		return
	case r.URL.Host == "" || r.URL.Opaque != "":
		s.refuse(w, http.StatusBadRequest, errors.New("the URI of the request names no host"))
		return
	}
	s.conn.carry()
	if !s.hopsLeft(w, r) {
		return
	}
	if s.requester == nil {
		s.start()
	}
	if r.Header.Get("Expect") != "" {
		w = continued{w}
	}
	s.requester.ServeHTTP(w, r)
}

// continued is for a client who waits until the body may come. When the server says that it may, the body is read, and
// net/http tells the client so; the server's own word would come a second time.
type continued struct{ http.ResponseWriter }

func (c continued) WriteHeader(status int) {
	if status != http.StatusContinue {
		c.ResponseWriter.WriteHeader(status)
	}
}

// Unwrap is for http.ResponseController.
func (c continued) Unwrap() http.ResponseWriter { return c.ResponseWriter }

// hopsLeft counts the Max-Forwards of TRACE and OPTIONS down (RFC 9110, section 7.6.2), and answers itself when none is left.
func (s *session) hopsLeft(w http.ResponseWriter, r *http.Request) bool {
	left := r.Header.Get("Max-Forwards")
	if left == "" || r.Method != http.MethodTrace && r.Method != http.MethodOptions {
		return true
	}
	n, err := strconv.ParseUint(left, 10, 31)
	switch {
	case err != nil:
		s.refuse(w, http.StatusBadRequest, errors.New("Max-Forwards is no number"))
		return false
	case n > 0:
		r.Header.Set("Max-Forwards", strconv.FormatUint(n-1, 10))
		return true
	case r.Method == http.MethodTrace:
		s.refuse(w, http.StatusMethodNotAllowed, errors.New("this proxy does not answer TRACE"))
	default:
		w.WriteHeader(http.StatusNoContent)
	}
	return false
}

// start makes what carries requests.
func (s *session) start() {
	s.transport = &http.Transport{
		DialContext:            s.dial,
		DisableCompression:     true, // bodies go through as they are
		MaxIdleConns:           maxIdleConns,
		MaxIdleConnsPerHost:    1, // a client has one request at a time
		IdleConnTimeout:        idleWait,
		ExpectContinueTimeout:  idleWait, // the server says when the body may come; ours is not to guess
		MaxResponseHeaderBytes: maxAnswer,
	}
	s.requester = &httputil.ReverseProxy{
		Transport:      s.transport,
		FlushInterval:  -1, // what a server has sent is not kept waiting
		ErrorLog:       s.proxy.silent,
		BufferPool:     s.proxy,
		Rewrite:        s.rewrite,
		ModifyResponse: s.modify,
		ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) {
			if r.Context().Err() != nil {
				// Without an answer net/http would make one up, and that is 200 OK.
				s.failure = fmt.Errorf("the client has gone: %w", err)
				panic(http.ErrAbortHandler)
			}
			s.refuse(w, statusOf(err), err)
		},
	}
}

// rewrite makes of a request what goes out. ReverseProxy has removed what is for one hop alone, but also what a proxy before
// a server does not trust; a proxy behind a client passes that on, and adds nothing about the client.
func (s *session) rewrite(r *httputil.ProxyRequest) {
	r.Out.Host = r.Out.URL.Host
	r.Out.URL.RawQuery = r.In.URL.RawQuery
	for _, name := range []string{"Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto"} {
		if values := r.In.Header.Values(name); len(values) > 0 && !listed(r.In.Header, name) {
			r.Out.Header[http.CanonicalHeaderKey(name)] = values
		}
	}
	r.Out.Trailer = r.In.Trailer // it is filled as the body is read
	dropProxyHeaders(r.Out.Header)
	s.addVia(r.Out.Header, r.In.ProtoMajor, r.In.ProtoMinor)
}

// modify makes of a response what goes back.
func (s *session) modify(r *http.Response) error {
	// Who asks for a login in the name of a proxy is the proxy. A server that does is after the client's password.
	if r.StatusCode == http.StatusProxyAuthRequired {
		return errors.New("the server answers as if it were a proxy (407)")
	}
	dropProxyHeaders(r.Header)
	s.addVia(r.Header, r.ProtoMajor, r.ProtoMinor)
	return nil
}

// listed reports whether Connection names a header, which is then for one hop alone (RFC 9110, section 7.6.1).
func listed(h http.Header, name string) bool {
	for _, line := range h.Values("Connection") {
		for entry := range strings.SplitSeq(line, ",") {
			if strings.EqualFold(strings.TrimSpace(entry), name) {
				return true
			}
		}
	}
	return false
}

// dropProxyHeaders drops what is said between a client and its proxy.
func dropProxyHeaders(h http.Header) {
	for name := range h {
		if strings.HasPrefix(name, "Proxy-") {
			delete(h, name)
		}
	}
}

// addVia says in a message that it has been here (RFC 9110, section 7.6.3), and by which version it came.
func (s *session) addVia(h http.Header, major, minor int) {
	h.Add("Via", fmt.Sprintf("%d.%d %s", major, minor, s.proxy.via))
}

// targets are the connections that requests were carried over.
type targets struct {
	mu      sync.Mutex
	open    map[net.Conn]bool
	over    bool           // nobody dials any more
	dialing sync.WaitGroup // those who do; nobody joins them once it is over
}

// begin enters one who dials, if it is not over.
func (t *targets) begin() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.over {
		t.dialing.Add(1)
	}
	return !t.over
}

// end waits for those who still dial, whose contexts have ended.
func (t *targets) end() {
	t.mu.Lock()
	t.over = true
	t.mu.Unlock()
	t.dialing.Wait()
}

// dialer returns how to connect to the server of a request. Transport goes on dialling when the request has been given up;
// ctx ends with the client.
func (s *session) dialer(ctx context.Context) func(context.Context, string, string) (net.Conn, error) {
	return func(asked context.Context, network, addr string) (net.Conn, error) {
		host, port, err := splitTarget(addr)
		if err != nil {
			return nil, err
		}
		if !s.begin() {
			return nil, net.ErrClosed
		}
		defer s.dialing.Done()
		asked, cancel := context.WithCancel(asked)
		defer cancel()
		defer context.AfterFunc(ctx, cancel)()
		target, err := s.env.Dial(asked, network, host, port)
		if err != nil {
			return nil, err
		}
		return s.add(ctx, target)
	}
}

func (t *targets) add(ctx context.Context, target net.Conn) (net.Conn, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := ctx.Err(); err != nil {
		target.Close()
		return nil, err
	}
	t.open[target] = true
	return &tracked{target, t}, nil
}

// A tracked connection is known until it is closed.
type tracked struct {
	net.Conn
	targets *targets
}

func (c *tracked) Close() error {
	c.targets.mu.Lock()
	delete(c.targets.open, c.Conn)
	c.targets.mu.Unlock()
	return c.Conn.Close()
}

// CloseWrite is for a connection that became something else than HTTP.
func (c *tracked) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return c.Close()
}

// closeTargets closes every connection to a server.
func (s *session) closeTargets() {
	if s.transport != nil {
		s.transport.CloseIdleConnections()
	}
	s.targets.mu.Lock()
	defer s.targets.mu.Unlock()
	for target := range s.targets.open {
		target.Close()
	}
}
