package igd

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/netip"
	"strings"

	"github.com/fairlead-net/fairlead/portmap"
	"github.com/fairlead-net/fairlead/portmap/ssdp"
	"github.com/fairlead-net/fairlead/portmap/upnp"
)

// An action does what a call asks for. The error is a *upnp.Fault, or an error of the desk.
type action func(ctx context.Context, c *call) (upnp.Args, error)

// A call is one that came in.
type call struct {
	*door
	client  netip.Addr
	service string // with the version that the client spoke of
	version int    // of that
	args    upnp.Args
}

// errStranger is what a client may not do since it is about somebody else.
var errStranger = errors.New("it is another client's")

// control answers a SOAP call.
func (d *door) control(ctx context.Context, w http.ResponseWriter, r *http.Request, client netip.Addr, s *service) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		refuse(w, http.StatusRequestEntityTooLarge)
		return
	}
	name, verb, ok := upnp.ParseSOAPAction(r.Header.Get("SOAPAction"))
	kind, isType := ssdp.ParseType(name)
	if !ok || !isType || !s.kind.Serves(kind) {
		fail(w, upnp.NewFault(s.kind.String(), upnp.InvalidAction))
		return
	}
	asked, err := upnp.ParseCall(body)
	if err != nil {
		d.Log.Debug("a call that is none", keyClient, client, keyAction, verb, keyError, err)
		refuse(w, http.StatusBadRequest)
		return
	}
	act := s.actions[verb]
	if act == nil || asked.Action != verb || kind.Version < 2 && s.kind.Version > 1 && secondOnly[verb] {
		fail(w, upnp.NewFault(name, upnp.InvalidAction))
		return
	}
	c := &call{d, client, name, kind.Version, asked.Args}
	out, err := act(ctx, c)
	if err != nil {
		f := c.fault(verb, err)
		d.Log.Debug("UPnP: refused", keyClient, client, keyAction, verb, keyCode, f.Code, keyError, err)
		fail(w, f)
		return
	}
	answer := upnp.Call{Service: name, Action: verb, Args: out}
	write(w, http.StatusOK, answer.AppendAnswer(nil))
}

// secondOnly are the actions that version 1 of WANIPConnection does not have.
var secondOnly = map[string]bool{upnp.AddAnyPortMapping: true, upnp.DeletePortMappingRange: true, upnp.GetListOfPortMappings: true}

// fail answers with a fault, which HTTP calls a server's error (UDA 1.1, section 3.1.3).
func fail(w http.ResponseWriter, f *upnp.Fault) {
	write(w, http.StatusInternalServerError, f.Append(nil))
}

// fault is what a client is told of an error. Those of version 1 know few codes: what is taken, or not theirs, is a conflict to
// them, after which they try another port.
func (c *call) fault(verb string, err error) *upnp.Fault {
	var f *upnp.Fault
	if errors.As(err, &f) {
		if f.Description == "" {
			return upnp.NewFault(c.service, f.Code)
		}
		return f
	}
	second := c.version >= 2 || strings.HasPrefix(c.service, upnp.WANIPv6FirewallControl)
	pinhole := strings.HasPrefix(c.service, upnp.WANIPv6FirewallControl)
	code := upnp.ActionFailed
	switch {
	case errors.Is(err, errStranger), errors.Is(err, portmap.ErrDenied):
		switch {
		case second:
			code = upnp.NotAuthorized
		case verb == upnp.AddPortMapping:
			code = upnp.Conflict
		default:
			code = upnp.NoSuchEntry
		}
	case pinhole && (errors.Is(err, portmap.ErrQuota) || errors.Is(err, portmap.ErrFull)):
		code = upnp.PinholeSpaceExhausted
	case pinhole && errors.Is(err, portmap.ErrNotFound):
		code = upnp.NoSuchPinhole
	case errors.Is(err, portmap.ErrNotFound):
		code = upnp.NoSuchEntry
	case errors.Is(err, portmap.ErrConflict) && !pinhole:
		code = upnp.Conflict
	case verb == upnp.AddAnyPortMapping && (errors.Is(err, portmap.ErrQuota) || errors.Is(err, portmap.ErrFull)):
		code = upnp.NoPorts
	}
	return upnp.NewFault(c.service, code)
}

// own reports whether a mapping is the client's own; mine, whether it is, or the operator lets clients act for others.
func (c *call) own(m *portmap.Mapping) bool {
	return c.client == m.Internal.Addr() || c.client == m.Client || c.isAlso(m.Internal.Addr())
}

// isAlso reports whether an address of the same place is the client's, too. A neighbour of another place may have taken on its hardware
// address.
func (c *call) isAlso(inside netip.Addr) bool {
	return within(c.place, inside) && c.SameHost(c.client, inside)
}

func (c *call) mine(m *portmap.Mapping) bool { return c.Spec.ThirdParty || c.own(m) }

// as is who the client is to the desk in what concerns one of the LAN: that host itself where it is the same neighbour by another
// address, as when a program asks from a link-local or a temporary address.
func (c *call) as(inside netip.Addr) netip.Addr {
	if c.isAlso(inside) {
		return inside
	}
	return c.client
}
