package publish

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"time"

	"github.com/fairlead-net/fairlead/portmap/ssdp"
	"github.com/fairlead-net/fairlead/portmap/upnp"
)

func (g *fakeGateway) answer(addr netip.Addr, target string, kind ssdp.Kind) []byte {
	location := g.location
	if location == "" {
		host := addr.String()
		if addr.Is6() {
			host = "[" + host + "]"
		}
		location = fmt.Sprintf("http://%s:%d/root.xml", host, g.port())
	}
	m := ssdp.Message{Kind: kind, Target: target, USN: "uuid:1::" + target, Location: location, MaxAge: 1800, Host: "239.255.255.250:1900"}
	return m.Append(nil)
}

func (g *fakeGateway) description() []byte {
	connection := upnp.Device{Type: upnp.WANConnectionDevice + ":1", Services: []upnp.Service{{
		Type: fmt.Sprintf("%s:%d", upnp.WANIPConnection, g.igd), ID: "urn:upnp-org:serviceId:WANIPConn1", SCPDURL: "/scpd", ControlURL: "/ctl", EventURL: "/evt",
	}}}
	if g.firewall {
		connection.Services = append(connection.Services, upnp.Service{Type: upnp.WANIPv6FirewallControl + ":1", ControlURL: "/fw"})
	}
	wan := upnp.Device{Type: upnp.WANDevice + ":1", Devices: []upnp.Device{connection}}
	d := upnp.Description{Device: upnp.Device{Type: upnp.InternetGatewayDevice + ":1", FriendlyName: "fake\x1b[31m", UDN: "uuid:1", Devices: []upnp.Device{wan}}}
	return d.Append(nil)
}

func (g *fakeGateway) serveHTTP(conn net.Conn, from netip.Addr) {
	defer conn.Close()
	req, err := http.ReadRequest(bufio.NewReader(conn))
	if err != nil {
		return
	}
	body, _ := io.ReadAll(req.Body)
	status, out := 200, g.description()
	if req.Method == http.MethodPost {
		g.mu.Lock()
		status, out = g.soap(body, from)
		g.mu.Unlock()
	}
	if g.garble != nil {
		_, _ = conn.Write(g.garble(out))
		return
	}
	fmt.Fprintf(conn, "HTTP/1.1 %d X\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s", status, len(out), out)
}

func (g *fakeGateway) soap(body []byte, from netip.Addr) (int, []byte) {
	c, err := upnp.ParseCall(body)
	if err != nil {
		return 400, nil
	}
	refuse := func(code int) (int, []byte) {
		f := upnp.Fault{Code: code, Description: "no"}
		return 500, f.Append(nil)
	}
	reply := func(args ...upnp.Arg) (int, []byte) {
		r := upnp.Call{Service: c.Service, Action: c.Action, Args: args}
		return 200, r.AppendAnswer(nil)
	}
	switch c.Action {
	case upnp.GetExternalIPAddress:
		addr := ""
		if g.external.IsValid() {
			addr = g.external.String()
		}
		return reply(upnp.Arg{Name: "NewExternalIPAddress", Value: addr})
	case upnp.AddPortMapping, upnp.AddAnyPortMapping:
		m, err := c.Args.Mapping()
		switch {
		case err != nil:
			return refuse(upnp.InvalidArgs)
		case g.code != 0:
			return refuse(g.code)
		case c.Action == upnp.AddAnyPortMapping && g.igd < 2:
			return refuse(upnp.InvalidAction)
		case g.permanent && m.Lease != 0:
			return refuse(upnp.OnlyPermanent)
		}
		client := netip.MustParseAddr(m.InternalClient)
		if client != from {
			return refuse(upnp.NotAuthorized)
		}
		e, taken := g.mappings[mapKey{m.Network, m.External}]
		if taken && e.client != client && c.Action == upnp.AddPortMapping && !g.steals {
			return refuse(upnp.Conflict)
		}
		if c.Action == upnp.AddAnyPortMapping {
			return reply(upnp.Arg{Name: "NewReservedPort", Value: fmt.Sprint(g.put(m.Network, client, m.InternalPort, m.External, time.Duration(m.Lease)*time.Second, [12]byte{}))})
		}
		g.adds++
		if !g.lies {
			g.mappings[mapKey{m.Network, m.External}] = mapEntry{client: client, internal: m.InternalPort, lease: time.Duration(m.Lease) * time.Second}
		}
		return reply()
	case upnp.DeletePortMapping, upnp.GetSpecificPortMappingEntry:
		m, err := c.Args.Named()
		if err != nil {
			return refuse(upnp.InvalidArgs)
		}
		e, ok := g.mappings[mapKey{m.Network, m.External}]
		if !ok {
			return refuse(upnp.NoSuchEntry)
		}
		if c.Action == upnp.DeletePortMapping {
			delete(g.mappings, mapKey{m.Network, m.External})
			return reply()
		}
		m.InternalClient, m.InternalPort, m.Enabled, m.Lease = e.client.String(), e.internal, true, uint32(e.lease/time.Second)
		return reply(m.EntryArgs()...)
	case upnp.AddPinhole:
		p, err := c.Args.Pinhole()
		if err != nil || p.InternalClient != from.String() {
			return refuse(upnp.NotAuthorized)
		}
		if g.code != 0 {
			return refuse(g.code)
		}
		if g.pinholes == nil {
			g.pinholes = map[int]upnp.Pinhole{}
		}
		id := len(g.pinholes) + 1
		g.adds++
		g.pinholes[id] = p
		return reply(upnp.Arg{Name: "UniqueID", Value: fmt.Sprint(id)})
	case upnp.UpdatePinhole, upnp.DeletePinhole, upnp.GetPinholePackets:
		id, _ := c.Args.Number("UniqueID", 16)
		if _, ok := g.pinholes[int(id)]; !ok {
			return refuse(upnp.NoSuchPinhole)
		}
		if c.Action == upnp.DeletePinhole {
			delete(g.pinholes, int(id))
		}
		return reply(upnp.Arg{Name: "PinholePackets", Value: "0"})
	case upnp.GetGenericPortMappingEntry:
		i, _ := c.Args.Number("NewPortMappingIndex", 16)
		var keys []mapKey
		for k := range g.mappings {
			keys = append(keys, k)
		}
		slices.SortFunc(keys, func(a, b mapKey) int { return int(a.external) - int(b.external) })
		if int(i) >= len(keys) {
			return refuse(upnp.InvalidIndex)
		}
		k := keys[i]
		e := g.mappings[k]
		m := upnp.PortMapping{External: k.external, Network: k.network, InternalClient: e.client.String(), InternalPort: e.internal, Enabled: true, Description: "x\ny"}
		return reply(m.Args()...)
	}
	return refuse(upnp.InvalidAction)
}
