package upnp

import (
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"unicode/utf8"
)

// The types of devices that a gateway is made of, without their versions.
const (
	InternetGatewayDevice = "urn:schemas-upnp-org:device:InternetGatewayDevice"
	WANDevice             = "urn:schemas-upnp-org:device:WANDevice"
	WANConnectionDevice   = "urn:schemas-upnp-org:device:WANConnectionDevice"
)

// The types of their services, without their versions.
const (
	Layer3Forwarding         = "urn:schemas-upnp-org:service:Layer3Forwarding"
	WANCommonInterfaceConfig = "urn:schemas-upnp-org:service:WANCommonInterfaceConfig"
	WANIPConnection          = "urn:schemas-upnp-org:service:WANIPConnection"
	WANPPPConnection         = "urn:schemas-upnp-org:service:WANPPPConnection"
	WANIPv6FirewallControl   = "urn:schemas-upnp-org:service:WANIPv6FirewallControl"
)

// A Description is that of a device (UDA 1.1, section 2.3).
type Description struct {
	Minor   int    // of the version of UPnP: 0 or 1
	Config  uint32 // CONFIGID.UPNP.ORG; 0: none
	URLBase string // only old devices have it
	Device  Device
}

// A Device is the root, or one that is part of another.
type Device struct {
	Type             string // with its version
	FriendlyName     string
	Manufacturer     string
	ManufacturerURL  string
	ModelDescription string
	ModelName        string
	ModelNumber      string
	ModelURL         string
	SerialNumber     string
	UDN              string // "uuid:…"
	PresentationURL  string
	Services         []Service
	Devices          []Device
}

// A Service is one of a device. Its addresses are as they stand in the description, usually without a host.
type Service struct {
	Type       string // with its version
	ID         string
	SCPDURL    string
	ControlURL string
	EventURL   string // "": it has no events
}

// ParseDescription reads the description of a device.
func ParseDescription(b []byte) (Description, error) {
	root, err := parse(b)
	if err != nil {
		return Description{}, err
	}
	device := root.child("device")
	if root.name != "root" || device == nil {
		return Description{}, bad("no description of a device, but a <%.40s>", root.name)
	}
	d := Description{URLBase: root.of("URLBase"), Device: readDevice(device)}
	if root.child("specVersion").of("minor") == "1" {
		d.Minor = 1
	}
	return d, nil
}

func readDevice(e *element) Device {
	d := Device{
		Type: e.of("deviceType"), FriendlyName: e.of("friendlyName"), Manufacturer: e.of("manufacturer"), ManufacturerURL: e.of("manufacturerURL"),
		ModelDescription: e.of("modelDescription"), ModelName: e.of("modelName"), ModelNumber: e.of("modelNumber"), ModelURL: e.of("modelURL"),
		SerialNumber: e.of("serialNumber"), UDN: e.of("UDN"), PresentationURL: e.of("presentationURL"),
	}
	if list := e.child("serviceList"); list != nil {
		for _, s := range list.children {
			if s.name == "service" {
				d.Services = append(d.Services, Service{s.of("serviceType"), s.of("serviceId"), s.of("SCPDURL"), s.of("controlURL"), s.of("eventSubURL")})
			}
		}
	}
	if list := e.child("deviceList"); list != nil {
		for _, c := range list.children {
			if c.name == "device" {
				d.Devices = append(d.Devices, readDevice(c))
			}
		}
	}
	return d
}

// All calls yield for a device and all that are part of it, with their services: outer ones first.
func (d *Device) All(yield func(*Device) bool) { d.all(yield) }

func (d *Device) all(yield func(*Device) bool) bool {
	if !yield(d) {
		return false
	}
	for i := range d.Devices {
		if !d.Devices[i].all(yield) {
			return false
		}
	}
	return true
}

// Find is the services of a type, whatever their versions.
func (d *Device) Find(name string) (list []Service) {
	for device := range d.All {
		for _, s := range device.Services {
			if base, version, ok := cutVersion(s.Type); ok && base == name && version != "" {
				list = append(list, s)
			}
		}
	}
	return list
}

func cutVersion(s string) (name, version string, ok bool) {
	i := strings.LastIndexByte(s, ':')
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+1:], true
}

// Resolve is the whole of an address that stands in a description which was read from location. It refuses every one that leads
// somewhere else than to the host that the description came from, or is not HTTP: a description must not send its reader about.
// location itself has an IP literal for its host.
func (d *Description) Resolve(location, ref string) (string, error) {
	from, err := url.Parse(location)
	if err != nil {
		return "", bad("the location %.80q", location)
	}
	host, err := netip.ParseAddr(from.Hostname())
	if err != nil || from.Scheme != "http" {
		return "", bad("the location %.80q has no address for its host, or is not HTTP", location)
	}
	if strings.ContainsFunc(host.Zone(), func(r rune) bool { return r >= utf8.RuneSelf }) { // net/url reads such a zone, but not what it writes of it
		return "", bad("the zone of the location %.80q is not in ASCII", location)
	}
	base := from
	if d.URLBase != "" {
		if base, err = from.Parse(d.URLBase); err != nil {
			return "", bad("the URLBase %.80q", d.URLBase)
		}
	}
	to, err := base.Parse(ref)
	if err != nil || ref == "" {
		return "", bad("the address %.80q", ref)
	}
	there, err := netip.ParseAddr(to.Hostname())
	if err != nil || there.WithZone("") != host.WithZone("") || to.Scheme != "http" || to.User != nil {
		return "", bad("%.80q leads away from %v", ref, host)
	}
	if host.Zone() != "" && there.Zone() == "" { // a description cannot know what its reader calls the link
		port := to.Port()
		to.Host = "[" + host.String() + "]"
		if port != "" {
			to.Host += ":" + port
		}
	}
	to.Fragment = ""
	return to.String(), nil
}

// Append writes the description to b.
func (d *Description) Append(b []byte) []byte {
	w := &writer{b}
	w.raw(declaration, `<root xmlns="urn:schemas-upnp-org:device-1-0"`)
	if d.Config != 0 {
		w.raw(` configId="`, strconv.FormatUint(uint64(d.Config), 10), `"`)
	}
	w.raw("><specVersion><major>1</major><minor>", strconv.Itoa(d.Minor), "</minor></specVersion>")
	w.some("URLBase", d.URLBase)
	w.device(&d.Device)
	w.raw("</root>\n")
	return w.b
}

func (w *writer) device(d *Device) {
	w.raw("<device>")
	w.leaf("deviceType", d.Type)
	w.leaf("friendlyName", d.FriendlyName)
	w.leaf("manufacturer", d.Manufacturer)
	w.some("manufacturerURL", d.ManufacturerURL)
	w.some("modelDescription", d.ModelDescription)
	w.leaf("modelName", d.ModelName)
	w.some("modelNumber", d.ModelNumber)
	w.some("modelURL", d.ModelURL)
	w.some("serialNumber", d.SerialNumber)
	w.leaf("UDN", d.UDN)
	if len(d.Services) > 0 {
		w.raw("<serviceList>")
		for _, s := range d.Services {
			w.raw("<service>")
			w.leaf("serviceType", s.Type)
			w.leaf("serviceId", s.ID)
			w.leaf("SCPDURL", s.SCPDURL)
			w.leaf("controlURL", s.ControlURL)
			w.leaf("eventSubURL", s.EventURL)
			w.raw("</service>")
		}
		w.raw("</serviceList>")
	}
	if len(d.Devices) > 0 {
		w.raw("<deviceList>")
		for i := range d.Devices {
			w.device(&d.Devices[i])
		}
		w.raw("</deviceList>")
	}
	w.some("presentationURL", d.PresentationURL)
	w.raw("</device>")
}
