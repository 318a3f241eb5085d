package upnp

// AppendListing writes what comes out of GetListOfPortMappings, which is a text within a text (WANIPConnection:2, section 2.3.31).
func AppendListing(b []byte, list []PortMapping) []byte {
	w := &writer{b}
	w.raw(declaration, `<p:PortMappingList xmlns:p="urn:schemas-upnp-org:gw:WANIPConnection" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" `,
		`xsi:schemaLocation="urn:schemas-upnp-org:gw:WANIPConnection http://www.upnp.org/schemas/gw/WANIPConnection-v2.xsd">`)
	for i := range list {
		m := &list[i]
		enabled := "0"
		if m.Enabled {
			enabled = "1"
		}
		w.raw("<p:PortMappingEntry>")
		w.leaf("p:NewRemoteHost", m.RemoteHost)
		w.leaf("p:NewExternalPort", decimal(uint64(m.External)))
		w.leaf("p:NewProtocol", Protocol(m.Network))
		w.leaf("p:NewInternalPort", decimal(uint64(m.InternalPort)))
		w.leaf("p:NewInternalClient", m.InternalClient)
		w.leaf("p:NewEnabled", enabled)
		w.leaf("p:NewDescription", m.Description)
		w.leaf("p:NewLeaseTime", decimal(uint64(m.Lease)))
		w.raw("</p:PortMappingEntry>")
	}
	w.raw("</p:PortMappingList>")
	return w.b
}

// ParseListing reads it. An entry that makes no sense is left out.
func ParseListing(b []byte) ([]PortMapping, error) {
	root, err := parse(b)
	if err != nil {
		return nil, err
	}
	if root.name != "PortMappingList" {
		return nil, bad("no list of mappings, but a <%.40s>", root.name)
	}
	var list []PortMapping
	for _, e := range root.children {
		if e.name != "PortMappingEntry" {
			continue
		}
		args := Args{{argDescription, e.of("NewDescription")}, {argLease, e.of("NewLeaseTime")}}
		for _, name := range []string{argRemoteHost, argExternalPort, argProtocol, argInternalPort, argInternalClient, argEnabled} {
			args = append(args, Arg{name, e.of(name)})
		}
		if m, err := args.Mapping(); err == nil {
			list = append(list, m)
		}
	}
	return list, nil
}
