package igd

import (
	"context"
	"strconv"
	"time"

	"github.com/fairlead-net/fairlead/portmap/upnp"
)

// decimal writes a number.
func decimal[N ~uint16 | ~uint32 | ~uint64 | ~int](n N) string {
	return strconv.FormatUint(uint64(n), 10)
}

// connected is what clients are told of the connection whatever there is to be said of its address: they give up on anything else, and
// a mapping holds for when it is back.
const connected = "Connected"

func externalAddress(_ context.Context, c *call) (upnp.Args, error) {
	addr, _ := c.Desk.External()
	if !addr.Is4() || addr.IsUnspecified() {
		return nil, &upnp.Fault{Code: upnp.ActionFailed, Description: "There is no external address now"}
	}
	return upnp.Args{{Name: "NewExternalIPAddress", Value: addr.String()}}, nil
}

func statusInfo(_ context.Context, c *call) (upnp.Args, error) {
	return upnp.Args{
		{Name: "NewConnectionStatus", Value: connected}, {Name: "NewLastConnectionError", Value: "ERROR_NONE"},
		{Name: "NewUptime", Value: decimal(uint32(time.Since(c.started) / time.Second))},
	}, nil
}

func natStatus(context.Context, *call) (upnp.Args, error) {
	return upnp.Args{{Name: "NewRSIPAvailable", Value: "0"}, {Name: "NewNATEnabled", Value: "1"}}, nil
}

func connectionType(context.Context, *call) (upnp.Args, error) {
	return upnp.Args{{Name: "NewConnectionType", Value: "IP_Routed"}, {Name: "NewPossibleConnectionTypes", Value: "IP_Routed"}}, nil
}

// linkActions is WANCommonInterfaceConfig. Without counters there are no actions that would make them up.
func (s *Server) linkActions() map[string]action {
	link := func() (l Link) {
		if s.Link != nil {
			l = s.Link()
		}
		return l
	}
	list := map[string]action{
		"GetCommonLinkProperties": func(context.Context, *call) (upnp.Args, error) {
			l := link()
			return upnp.Args{
				{Name: "NewWANAccessType", Value: "Ethernet"}, {Name: "NewLayer1UpstreamMaxBitRate", Value: decimal(l.Up)},
				{Name: "NewLayer1DownstreamMaxBitRate", Value: decimal(l.Down)}, {Name: "NewPhysicalLinkStatus", Value: "Up"},
			}, nil
		},
	}
	if s.Link == nil {
		return list
	}
	for name, count := range map[string]func(Link) uint64{
		"TotalBytesSent":       func(l Link) uint64 { return l.BytesOut },
		"TotalBytesReceived":   func(l Link) uint64 { return l.BytesIn },
		"TotalPacketsSent":     func(l Link) uint64 { return l.PacketsOut },
		"TotalPacketsReceived": func(l Link) uint64 { return l.PacketsIn },
	} {
		list["Get"+name] = func(context.Context, *call) (upnp.Args, error) {
			return upnp.Args{{Name: "New" + name, Value: decimal(uint32(count(link())))}}, nil
		}
	}
	return list
}

// routeActions is Layer3Forwarding: which connection is the default one. There is one.
func routeActions() map[string]action {
	return map[string]action{
		"GetDefaultConnectionService": func(_ context.Context, c *call) (upnp.Args, error) {
			return upnp.Args{{Name: "NewDefaultConnectionService", Value: c.defaultConnection(c.device)}}, nil
		},
		"SetDefaultConnectionService": func(context.Context, *call) (upnp.Args, error) { return nil, refused(upnp.ActionFailed) },
	}
}

func (s *Server) defaultConnection(d *device) string {
	return "uuid:" + s.uuid(d.version, 2) + ":" + typeOf(upnp.WANConnectionDevice, d.version).String() + ",urn:upnp-org:serviceId:WANIPConn1"
}
