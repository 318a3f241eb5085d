package publish

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"time"

	"github.com/fairlead-net/fairlead/portmap/upnp"
)

// The bounds of a gateway's HTTP server. Small ones take seconds for an answer while they change their rules.
const (
	httpTime    = 8 * time.Second
	maxHeader   = 16 << 10
	maxDocument = 256 << 10 // descriptions have 2 to 20 kB
)

// fetch gets or posts a text. Whatever address the URL has, it is the gateway's that is connected to, and no redirection is
// followed. An error status with a text is returned with it: SOAP's faults come so.
func (g *gateway) fetch(ctx context.Context, method, rawURL string, header map[string]string, body []byte) (status int, text []byte, err error) {
	u, err := url.Parse(rawURL)
	if err != nil {
		return 0, nil, err
	}
	at, err := g.httpAddr(u)
	if err != nil {
		return 0, nil, err
	}
	ctx, end := context.WithTimeout(ctx, httpTime)
	defer end()
	leave, err := g.enter(ctx)
	if err != nil {
		return 0, nil, err
	}
	defer leave()
	req, err := http.NewRequestWithContext(ctx, method, rawURL, bytes.NewReader(body))
	if err != nil {
		return 0, nil, err
	}
	for k, v := range header {
		req.Header[k] = []string{v} // as it is: some gateways know SOAPAction only when it is spelled so
	}
	req.Header.Set("User-Agent", "fairlead UPnP/1.1")
	transport := &http.Transport{
		DisableKeepAlives: true, DisableCompression: true, MaxResponseHeaderBytes: maxHeader,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return g.net.Dial(ctx, "tcp", g.local.Addr(), at)
		},
	}
	defer transport.CloseIdleConnections()
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return 0, nil, fmt.Errorf("HTTP with %s: %w", at, err)
	}
	defer resp.Body.Close()
	text, err = io.ReadAll(io.LimitReader(resp.Body, maxDocument+1))
	switch {
	case len(text) > maxDocument:
		return 0, nil, fmt.Errorf("HTTP with %s: the answer is longer than %d bytes", at, maxDocument)
	case err != nil && (len(text) == 0 || !errors.Is(err, io.ErrUnexpectedEOF)): // some say a length that is wrong
		return 0, nil, fmt.Errorf("HTTP with %s: %w", at, err)
	case resp.StatusCode/100 == 3:
		return 0, nil, fmt.Errorf("HTTP with %s: it leads elsewhere, which is not followed", at)
	}
	return resp.StatusCode, text, nil
}

// httpAddr is the gateway's address and the URL's port, if the URL is of the gateway.
func (g *gateway) httpAddr(u *url.URL) (netip.AddrPort, error) {
	host, err := netip.ParseAddr(u.Hostname())
	if err != nil || u.Scheme != "http" {
		return netip.AddrPort{}, fmt.Errorf("%s is not an address of the gateway", u.Redacted())
	}
	port := uint64(80)
	if p := u.Port(); p != "" {
		if port, err = strconv.ParseUint(p, 10, 16); err != nil || port == 0 {
			return netip.AddrPort{}, fmt.Errorf("%s has no port", u.Redacted())
		}
	}
	// Of several IPv6 addresses a search may have found another one, in the same network.
	if host != g.addr && (host.Is4() || !host.IsLinkLocalUnicast() && !g.local.Masked().Contains(host.WithZone(""))) {
		return netip.AddrPort{}, fmt.Errorf("%s is not the gateway %s", host, g.addr)
	}
	return netip.AddrPortFrom(host, uint16(port)), nil
}

// A control is a service of a gateway that can be called.
type control struct {
	g       *gateway
	service string // its type
	url     string
}

// call calls an action. The error is an *upnp.Fault where the gateway refused.
func (c *control) call(ctx context.Context, action string, args ...upnp.Arg) (upnp.Args, error) {
	q := upnp.Call{Service: c.service, Action: action, Args: args}
	status, text, err := c.g.fetch(ctx, http.MethodPost, c.url, map[string]string{
		"Content-Type": `text/xml; charset="utf-8"`, "SOAPAction": q.SOAPAction(),
	}, q.Append(nil))
	if err != nil {
		return nil, err
	}
	answer, err := upnp.ParseAnswer(text)
	switch {
	case err != nil && status != http.StatusOK && !errors.As(err, new(*upnp.Fault)):
		return nil, fmt.Errorf("%s: HTTP status %d", action, status)
	case err != nil:
		return nil, err
	case answer.Action != action:
		return nil, fmt.Errorf("%s: the answer is of another action", action)
	}
	return answer.Args, nil
}
