package igd

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/fairlead-net/fairlead/portmap/upnp"
)

// deliveryTime is how long one event may take, with its connection.
const deliveryTime = 5 * time.Second

// maxCallback is how many bytes the header CALLBACK has at most.
const maxCallback = 1024

// caller is the first address of a CALLBACK header, "<http://…><http://…>", that leads back to the client. This host opens no
// connection to anybody else, whatever a client says (CallStranger, CVE-2020-12695).
func caller(header string, client netip.Addr) (string, bool) {
	if len(header) > maxCallback {
		return "", false
	}
	for part := range strings.SplitSeq(header, "<") {
		text, _, closed := strings.Cut(part, ">")
		if !closed {
			continue
		}
		u, err := url.Parse(strings.TrimSpace(text))
		if err != nil || u.Scheme != "http" || u.User != nil || u.Opaque != "" {
			continue
		}
		addr, err := netip.ParseAddr(u.Hostname())
		if err != nil || addr.Unmap().WithZone("") != client || u.Port() == "0" {
			continue
		}
		u.Fragment = ""
		if u.Path == "" {
			u.Path = "/"
		}
		return u.String(), true
	}
	return "", false
}

// deliver sends one event, from the address and by the interface that the client subscribed at.
func (sub *subscription) deliver(ctx context.Context, seq uint32, changed upnp.Args) error {
	ctx, cancel := context.WithTimeout(ctx, deliveryTime)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, "NOTIFY", sub.callback, bytes.NewReader(upnp.AppendEvent(nil, changed)))
	if err != nil {
		return err
	}
	r.Header = http.Header{
		"Content-Type": {`text/xml; charset="utf-8"`}, "NT": {"upnp:event"}, "NTS": {"upnp:propchange"}, "SID": {sub.id},
		"SEQ": {strconv.FormatUint(uint64(seq), 10)}, "User-Agent": {sub.door.device.agent},
	}
	r.Close = true
	transport := &http.Transport{
		Proxy: nil, DialContext: sub.dial, DisableKeepAlives: true, DisableCompression: true, MaxResponseHeaderBytes: maxHeader,
	}
	answer, err := transport.RoundTrip(r) // which follows no redirections
	if err != nil {
		return err
	}
	_, _ = io.CopyN(io.Discard, answer.Body, maxHeader)
	_ = answer.Body.Close()
	if answer.StatusCode/100 != 2 {
		return fmt.Errorf("the subscriber answered %s", answer.Status)
	}
	return nil
}

// dial connects to the client, whatever address the caller has in mind; only its port counts.
func (sub *subscription) dial(ctx context.Context, _, address string) (net.Conn, error) {
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return nil, err
	}
	own, to := sub.door.addr.Addr(), netip.AddrPortFrom(sub.client, uint16(n))
	if sub.client.Is6() && sub.client.IsLinkLocalUnicast() {
		to = netip.AddrPortFrom(sub.client.WithZone(sub.door.place.Interface.Name), uint16(n))
		own = own.WithZone(sub.door.place.Interface.Name)
	}
	d := net.Dialer{Control: bound(sub.door.place.Interface.Name), LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(own, 0))}
	d.SetMultipathTCP(false)
	return d.DialContext(ctx, "tcp", to.String())
}
