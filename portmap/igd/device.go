package igd

import (
	"encoding/hex"
	"hash/crc32"
	"maps"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"github.com/fairlead-net/fairlead/portmap/ssdp"
	"github.com/fairlead-net/fairlead/portmap/upnp"
)

// A device is what clients see: the texts that describe it, and what it gives notice of. It never changes.
type device struct {
	version  int
	agent    string // SERVER of every answer
	config   uint32 // CONFIGID.UPNP.ORG
	base     string // of paths: "/token/version"
	offers   []offer
	texts    map[string][]byte   // by path
	services map[string]*service // by the path of their control
	events   map[string]*service // by that of their events
}

// An offer is one line of what SSDP says of a device.
type offer struct {
	target string
	kind   ssdp.Type // of target; zero where it is not one
	uuid   string
	quiet  bool // not announced: there are only answers to who asks for it by name
}

// A service is one of a device.
type service struct {
	short   string // in paths
	kind    ssdp.Type
	can     upnp.SCPD
	id      string
	actions map[string]action
}

// typeOf is a type with a version that this package knows to be one.
func typeOf(name string, version int) ssdp.Type { return ssdp.Type{Name: name, Version: version} }

func newDevice(s *Server, version int) *device {
	d := &device{
		version: version, base: "/" + s.token + "/" + strconv.Itoa(version),
		agent: strings.ToUpper(runtime.GOOS[:1]) + runtime.GOOS[1:] + "/1 UPnP/1.1 Fairlead/" + s.Version,
		texts: map[string][]byte{}, services: map[string]*service{}, events: map[string]*service{},
	}
	uuids := [3]string{s.uuid(version, 0), s.uuid(version, 1), s.uuid(version, 2)}
	can := upnp.Gateway(version)
	route := d.service("route", upnp.Layer3Forwarding, 1, "L3Forwarding1", can, routeActions())
	link := d.service("link", upnp.WANCommonInterfaceConfig, 1, "WANCommonIFC1", can, s.linkActions())
	inner := []upnp.Service{d.service("ip", upnp.WANIPConnection, version, "WANIPConn1", can, ipActions())}
	if version == 2 {
		inner = append(inner, d.service("holes", upnp.WANIPv6FirewallControl, 1, "WANIPv6Firewall1", can, s.pinholeActions()))
	}
	part := func(i int, kind, name string) upnp.Device {
		return upnp.Device{
			Type: typeOf(kind, version).String(), FriendlyName: name, Manufacturer: "Fairlead", ModelDescription: "Port forwarding and NAT",
			ModelName: "Fairlead", ModelNumber: s.Version, UDN: "uuid:" + uuids[i],
		}
	}
	root := part(0, upnp.InternetGatewayDevice, s.Name)
	wan := part(1, upnp.WANDevice, "WAN Device")
	connection := part(2, upnp.WANConnectionDevice, "WAN Connection Device")
	connection.Services = inner
	wan.Services, wan.Devices = []upnp.Service{link}, []upnp.Device{connection}
	root.Services, root.Devices = []upnp.Service{route}, []upnp.Device{wan}
	text := upnp.Description{Minor: version - 1, Device: root}
	d.config = crc32.ChecksumIEEE(text.Append(nil))&0xffffff | 1 // 24 bits (UDA 1.1, section 1.2.2), and not 0
	if version == 2 {
		text.Config = d.config // an attribute of UDA 1.1
	}
	d.texts[d.base+"/root.xml"] = text.Append(nil)

	d.offer(ssdp.RootDevice, uuids[0])
	i := 0
	for one := range root.All {
		d.offer(one.UDN, uuids[i])
		d.offer(one.Type, uuids[i])
		for _, service := range one.Services {
			d.offer(service.Type, uuids[i])
		}
		i++
	}
	d.offers = append(d.offers, offer{typeOf(upnp.WANPPPConnection, 1).String(), typeOf(upnp.WANPPPConnection, 1), uuids[2], true})
	return d
}

func (d *device) offer(target, uuid string) {
	kind, _ := ssdp.ParseType(target)
	d.offers = append(d.offers, offer{target, kind, uuid, false})
}

// service adds a service, and returns how the description has it.
func (d *device) service(short, name string, version int, id string, can map[string]upnp.SCPD, actions map[string]action) upnp.Service {
	s := &service{short, typeOf(name, version), can[name], "urn:upnp-org:serviceId:" + id, actions}
	maps.DeleteFunc(actions, func(name string, _ action) bool { return !s.can.Has(name) })                                     // never done and not said
	s.can.Actions = slices.DeleteFunc(slices.Clone(s.can.Actions), func(a upnp.Action) bool { return actions[a.Name] == nil }) // never said and not done
	at := upnp.Service{
		Type: s.kind.String(), ID: s.id, SCPDURL: d.base + "/" + short + ".xml",
		ControlURL: d.base + "/control/" + short, EventURL: d.base + "/event/" + short,
	}
	d.texts[at.SCPDURL] = s.can.Append(nil)
	d.services[at.ControlURL] = s
	d.events[at.EventURL] = s
	return at
}

// uuid is that of a part of a device, in the form of RFC 9562, version 8.
func (s *Server) uuid(version, part int) string {
	b, err := hex.DecodeString(s.secret("uuid " + strconv.Itoa(version) + " " + strconv.Itoa(part))[:32])
	if err != nil {
		panic(err) // it was encoded a line above
	}
	return formatUUID([16]byte(b), 8)
}

func formatUUID(b [16]byte, version byte) string {
	b[6], b[8] = b[6]&0x0f|version<<4, b[8]&0x3f|0x80
	h := hex.EncodeToString(b[:])
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}

// A hit is one answer to a search.
type hit struct{ target, usn string }

// find is what a search for target hits. A type comes back with the version that was asked for, since clients compare.
func (d *device) find(target string) (hits []hit) {
	want, isType := ssdp.ParseType(target)
	for _, o := range d.offers {
		switch {
		case target == ssdp.All && !o.quiet, target == o.target:
			hits = append(hits, hit{o.target, ssdp.USN(o.uuid, o.target)})
		case isType && o.kind.Serves(want):
			hits = append(hits, hit{target, ssdp.USN(o.uuid, target)})
		}
	}
	return hits
}
