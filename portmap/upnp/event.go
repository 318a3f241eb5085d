package upnp

// AppendEvent writes the body of an event: variables with their values (UDA 1.1, section 4.3.2).
func AppendEvent(b []byte, changed Args) []byte {
	w := &writer{b}
	w.raw(declaration, `<e:propertyset xmlns:e="urn:schemas-upnp-org:event-1-0">`)
	for _, v := range changed {
		w.raw("<e:property>")
		w.leaf(v.Name, v.Value)
		w.raw("</e:property>")
	}
	w.raw("</e:propertyset>\n")
	return w.b
}

// ParseEvent reads it.
func ParseEvent(b []byte) (Args, error) {
	root, err := parse(b)
	if err != nil {
		return nil, err
	}
	if root.name != "propertyset" {
		return nil, bad("no event, but a <%.40s>", root.name)
	}
	var list Args
	for _, p := range root.children {
		if p.name != "property" {
			continue
		}
		for _, v := range p.children {
			if len(list) >= MaxArgs {
				return nil, bad("more than %d variables", MaxArgs)
			}
			list = append(list, Arg{v.name, v.text})
		}
	}
	return list, nil
}
