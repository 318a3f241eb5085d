package igd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"sync"
	"time"

	"github.com/fairlead-net/fairlead/portmap"
)

// Bounds of HTTP. A call has about a kilobyte, two with the attributes of Windows.
const (
	maxHeader   = 8 << 10
	maxBody     = 16 << 10
	headerTime  = 5 * time.Second
	requestTime = 10 * time.Second
	answerTime  = 20 * time.Second
	idleTime    = 30 * time.Second
)

// A door is one address of a place that HTTP is served at.
type door struct {
	*Server
	place  portmap.Place
	addr   netip.AddrPort // without a zone
	device *device
}

// A site is a place that is being served.
type site struct {
	*Server
	place portmap.Place
	doors map[netip.Addr]uint16 // the port of HTTP at each address
	boot  uint32                // BOOTID.UPNP.ORG, which grows with each change of the addresses (UDA 1.1, section 1.2.2)
	meter meter
}

// serve serves one place until ctx ends, or until it cannot any more. It calls opened when clients are heard.
func (s *Server) serve(ctx context.Context, p portmap.Place, opened func()) (err error) {
	ctx, cancel := context.WithCancel(ctx)
	t := &site{Server: s, place: p, doors: map[netip.Addr]uint16{}, boot: uint32(time.Now().Unix())}
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	failed := make(chan error, len(p.Addrs)+2)
	start := func(fn func() error) {
		wg.Go(func() {
			if err := fn(); err != nil && ctx.Err() == nil {
				failed <- err
			}
		})
	}
	for _, own := range p.Addrs {
		ln, err := s.listen(ctx, p.Interface, own.Addr())
		if err != nil {
			return fmt.Errorf("HTTP at %v: %w", own.Addr(), err)
		}
		d := &door{s, p, netip.AddrPortFrom(own.Addr().WithZone(""), portOf(ln.Addr())), s.deviceFor(own.Addr())}
		t.doors[own.Addr()] = d.addr.Port()
		start(func() error { return d.serve(ctx, ln) })
	}
	for _, family := range []int{4, 6} {
		if !t.has(family) {
			continue
		}
		v, err := t.open(ctx, family)
		if err != nil {
			return fmt.Errorf("SSDP over IPv%d: %w", family, err)
		}
		start(func() error { return v.run(ctx) })
	}
	opened()
	s.Log.Info("UPnP is served", keyInterface, p.Interface.Name, keyAddresses, p.Addrs)
	select {
	case <-ctx.Done():
		return nil
	case err := <-failed:
		return err
	}
}

func (t *site) has(family int) bool {
	for _, own := range t.place.Addrs {
		if own.Addr().Is4() == (family == 4) {
			return true
		}
	}
	return false
}

// url is where the description is, for those who use an address of this host.
func (t *site) url(own netip.Addr) string {
	at := netip.AddrPortFrom(own.WithZone(""), t.doors[own])
	return "http://" + at.String() + t.deviceFor(own).base + "/root.xml"
}

// listen opens a listener at an address of an interface, at the port that the others have where it is free.
func (s *Server) listen(ctx context.Context, on net.Interface, addr netip.Addr) (net.Listener, error) {
	lc := net.ListenConfig{Control: bound(on.Name)}
	lc.SetMultipathTCP(false)
	if addr.IsLinkLocalUnicast() && addr.Is6() {
		addr = addr.WithZone(on.Name)
	}
	port := s.port.get()
	ln, err := lc.Listen(ctx, "tcp", netip.AddrPortFrom(addr, port).String())
	if err != nil && port != 0 && !s.port.fixed() {
		ln, err = lc.Listen(ctx, "tcp", netip.AddrPortFrom(addr, 0).String())
	}
	if err == nil {
		s.port.set(portOf(ln.Addr()))
	}
	return ln, err
}

func portOf(a net.Addr) uint16 { return a.(*net.TCPAddr).AddrPort().Port() }

// serve serves HTTP at a listener until ctx ends, and returns when the last connection has. What a client asked for is done even if it
// does not wait for the answer.
func (d *door) serve(ctx context.Context, ln net.Listener) error {
	var conns sync.WaitGroup
	srv := &http.Server{
		Handler:                      http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { d.answer(ctx, w, r) }),
		DisableGeneralOptionsHandler: true,
		MaxHeaderBytes:               maxHeader, ReadHeaderTimeout: headerTime, ReadTimeout: requestTime, WriteTimeout: answerTime, IdleTimeout: idleTime,
		ErrorLog: slog.NewLogLogger(d.Log.Handler(), slog.LevelDebug),
		ConnState: func(_ net.Conn, state http.ConnState) {
			switch state {
			case http.StateNew:
				conns.Add(1) // in the goroutine of Serve, which ends before anybody waits
			case http.StateClosed, http.StateHijacked:
				conns.Done()
			default:
			}
		},
	}
	stop := context.AfterFunc(ctx, func() { _ = srv.Close() })
	defer stop()
	err := srv.Serve(&lobby{ln, &d.guests, func(client netip.Addr) bool { return within(d.place, client) }})
	_ = srv.Close()
	conns.Wait()
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

// answer answers one request.
func (d *door) answer(ctx context.Context, w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h["SERVER"] = []string{d.device.agent}
	h["EXT"] = []string{""}
	client, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil || !d.isHost(r) || r.Header.Get("Origin") != "" {
		// A page in a browser that has got a name to stand for this address, or one that posts blindly.
		refuse(w, http.StatusForbidden)
		return
	}
	path := r.URL.Path
	from := client.Addr().Unmap().WithZone("")
	switch {
	case r.Method == http.MethodGet || r.Method == http.MethodHead:
		text := d.device.texts[path]
		if text == nil {
			refuse(w, http.StatusNotFound)
			return
		}
		write(w, http.StatusOK, text)
	case r.Method == http.MethodPost && d.device.services[path] != nil:
		d.control(ctx, w, r, from, d.device.services[path])
	case (r.Method == "SUBSCRIBE" || r.Method == "UNSUBSCRIBE") && d.device.events[path] != nil:
		d.subscription(w, r, from, d.device.events[path])
	case d.device.texts[path] != nil || d.device.services[path] != nil || d.device.events[path] != nil:
		refuse(w, http.StatusMethodNotAllowed)
	default:
		refuse(w, http.StatusNotFound)
	}
}

// isHost reports whether the request names the host by the address that it came to. A program of HTTP/1.0 may not name it.
func (d *door) isHost(r *http.Request) bool {
	if r.Host == "" {
		return !r.ProtoAtLeast(1, 1)
	}
	if ap, err := netip.ParseAddrPort(r.Host); err == nil {
		return ap.Addr().WithZone("") == d.addr.Addr() && ap.Port() == d.addr.Port()
	}
	host := r.Host
	if len(host) > 2 && host[0] == '[' && host[len(host)-1] == ']' {
		host = host[1 : len(host)-1]
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.WithZone("") == d.addr.Addr()
}

func refuse(w http.ResponseWriter, status int) {
	w.Header()["Content-Length"] = []string{"0"}
	w.WriteHeader(status)
}

// write answers with a text. The names of the header are as the standard writes them: some clients compare.
func write(w http.ResponseWriter, status int, text []byte) {
	h := w.Header()
	h["Content-Type"] = []string{`text/xml; charset="utf-8"`}
	h["Content-Length"] = []string{strconv.Itoa(len(text))}
	w.WriteHeader(status)
	_, _ = w.Write(text)
}
