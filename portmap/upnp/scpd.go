package upnp

// An SCPD is what a service can do (UDA 1.1, section 2.5).
type SCPD struct {
	Minor   int // of the version of UPnP
	Actions []Action
	State   []Variable
}

// An Action is one of a service.
type Action struct {
	Name      string
	Arguments []Argument
}

// An Argument goes in or comes out of an action, and is of the kind of a variable.
type Argument struct {
	Name     string
	Out      bool
	Variable string
}

// A Variable is one of the state of a service.
type Variable struct {
	Name    string
	Type    string // of data: "string", "ui2", "ui4", "boolean"
	Event   bool   // a change of it is told to subscribers
	Default string
	Allowed []string // values; none: all of the type
	Range   [2]string
}

// ParseSCPD reads what a service can do.
func ParseSCPD(b []byte) (SCPD, error) {
	root, err := parse(b)
	if err != nil {
		return SCPD{}, err
	}
	if root.name != "scpd" {
		return SCPD{}, bad("no description of a service, but a <%.40s>", root.name)
	}
	var s SCPD
	if root.child("specVersion").of("minor") == "1" {
		s.Minor = 1
	}
	for a := range root.list("actionList", "action") {
		action := Action{Name: a.of("name")}
		for arg := range a.list("argumentList", "argument") {
			action.Arguments = append(action.Arguments, Argument{arg.of("name"), arg.of("direction") == "out", arg.of("relatedStateVariable")})
		}
		s.Actions = append(s.Actions, action)
	}
	for v := range root.list("serviceStateTable", "stateVariable") {
		variable := Variable{Name: v.of("name"), Type: v.of("dataType"), Default: v.of("defaultValue")}
		for a := range v.list("allowedValueList", "allowedValue") {
			variable.Allowed = append(variable.Allowed, a.text)
		}
		if r := v.child("allowedValueRange"); r != nil {
			variable.Range = [2]string{r.of("minimum"), r.of("maximum")}
		}
		variable.Event = v.attribute == "yes"
		s.State = append(s.State, variable)
	}
	return s, nil
}

// list calls yield for the elements of one name in a child.
func (e *element) list(child, name string) func(yield func(*element) bool) {
	return func(yield func(*element) bool) {
		c := e.child(child)
		if c == nil {
			return
		}
		for _, one := range c.children {
			if one.name == name && !yield(one) {
				return
			}
		}
	}
}

// Has reports whether the service has an action.
func (s *SCPD) Has(action string) bool {
	for _, a := range s.Actions {
		if a.Name == action {
			return true
		}
	}
	return false
}

// Append writes the description of the service to b.
func (s *SCPD) Append(b []byte) []byte {
	w := &writer{b}
	w.raw(declaration, `<scpd xmlns="urn:schemas-upnp-org:service-1-0"><specVersion><major>1</major><minor>`, string(rune('0'+s.Minor)), "</minor></specVersion><actionList>")
	for _, a := range s.Actions {
		w.raw("<action>")
		w.leaf("name", a.Name)
		if len(a.Arguments) > 0 {
			w.raw("<argumentList>")
			for _, arg := range a.Arguments {
				w.raw("<argument>")
				w.leaf("name", arg.Name)
				direction := "in"
				if arg.Out {
					direction = "out"
				}
				w.leaf("direction", direction)
				w.leaf("relatedStateVariable", arg.Variable)
				w.raw("</argument>")
			}
			w.raw("</argumentList>")
		}
		w.raw("</action>")
	}
	w.raw("</actionList><serviceStateTable>")
	for _, v := range s.State {
		w.variable(v)
	}
	w.raw("</serviceStateTable></scpd>\n")
	return w.b
}

func (w *writer) variable(v Variable) {
	events := "no"
	if v.Event {
		events = "yes"
	}
	w.raw(`<stateVariable sendEvents="`, events, `">`)
	w.leaf("name", v.Name)
	w.leaf("dataType", v.Type)
	w.some("defaultValue", v.Default)
	if len(v.Allowed) > 0 {
		w.raw("<allowedValueList>")
		for _, a := range v.Allowed {
			w.leaf("allowedValue", a)
		}
		w.raw("</allowedValueList>")
	}
	if v.Range[1] != "" {
		w.raw("<allowedValueRange>")
		w.leaf("minimum", v.Range[0])
		w.leaf("maximum", v.Range[1])
		w.raw("</allowedValueRange>")
	}
	w.raw("</stateVariable>")
}
