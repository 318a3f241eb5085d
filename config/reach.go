package config

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"

	"github.com/pelletier/go-toml/v2/unstable"

	"github.com/fairlead-net/fairlead/forward"
)

// A Publish is whether gateways upstream are asked for a forward's ports: "true", "false", a port, or "random"; "" is "false".
// In TOML and JSON the first two are written without quotes, and a port may be.
type Publish string

// MarshalJSON writes what TOML would have.
func (p Publish) MarshalJSON() ([]byte, error) {
	switch p {
	case "", "false":
		return []byte("false"), nil
	case "true":
		return []byte("true"), nil
	}
	if n, err := strconv.ParseUint(string(p), 10, 16); err == nil {
		return json.Marshal(n)
	}
	return json.Marshal(string(p))
}

// UnmarshalJSON reads a truth value, a number or text.
func (p *Publish) UnmarshalJSON(data []byte) error {
	if len(data) > 0 && data[0] == '"' {
		return json.Unmarshal(data, (*string)(p))
	}
	var on bool
	if json.Unmarshal(data, &on) == nil {
		*p = Publish(strconv.FormatBool(on))
		return nil
	}
	var port uint16
	if err := json.Unmarshal(data, &port); err != nil {
		return errors.New(`publish is true, false, a port or "random"`)
	}
	*p = Publish(strconv.Itoa(int(port)))
	return nil
}

func (p *Publish) setNode(n *node, help func(key string) string) (msg, hint string) {
	if n.isText() || n.shape == shapeScalar && (n.kind == unstable.Bool || n.kind == unstable.Integer) {
		*p = Publish(n.text)
		return "", ""
	}
	return "this is " + describe(n), help(n.name)
}

func (p Publish) parse() (forward.Publish, error) {
	switch p {
	case "", "false":
		return forward.Publish{}, nil
	case "true":
		return forward.Publish{On: true}, nil
	case "random":
		return forward.Publish{On: true, Random: true}, nil
	}
	ports, err := forward.ParsePorts(string(p))
	if err != nil || ports.All || ports.Count() != 1 {
		return forward.Publish{}, fmt.Errorf("%q is no port", string(p))
	}
	return forward.Publish{On: true, Port: ports.Ranges[0].First}, nil
}

func publishOf(p forward.Publish) Publish {
	switch {
	case !p.On:
		return ""
	case p.Random:
		return "random"
	case p.Port != 0:
		return Publish(strconv.Itoa(int(p.Port)))
	}
	return "true"
}

// reachField is field for the keys about who reaches a forward from beyond a gateway, and how.
func (s *Spec) reachField(key string) any {
	switch key {
	case "helper":
		return &s.Helper
	case "passive_ports":
		return &s.PassivePorts
	case "publish":
		return &s.Publish
	}
	return nil
}

func gatewayKeyHelp(key string) string {
	switch key {
	case "helper":
		return `helper is "ftp", "sip", "tftp", "irc", "pptp", "h323" or "amanda": a protocol that negotiates further connections`
	case "passive_ports":
		return `passive_ports is a range such as "50000-50100", beside helper = "ftp": where the relay offers data connections`
	case "publish":
		return `publish is true, a port such as 8080, or "random": what gateways upstream are asked for; leave it out for nothing`
	}
	return ""
}

// reach reads into f what is about who reaches it from beyond a gateway.
func (s Spec) reach(f *forward.Forward, check func(field string, err error)) {
	var err error
	if s.Helper != "" {
		f.Helper, err = parseHelper(s.Helper)
		check("helper", err)
	}
	f.PassivePorts, err = parseRange(s.PassivePorts)
	check("passive_ports", err)
	f.Publish, err = s.Publish.parse()
	check("publish", err)
}

func parseRange(s string) (forward.Range, error) {
	if s == "" {
		return forward.Range{}, nil
	}
	ports, err := forward.ParsePorts(s)
	switch {
	case err != nil:
		return forward.Range{}, err
	case ports.All || len(ports.Ranges) != 1:
		return forward.Range{}, fmt.Errorf("%q is not one range", s)
	}
	return ports.Ranges[0], nil
}

func formatRange(r forward.Range) string {
	if r == (forward.Range{}) {
		return ""
	}
	return forward.Ports{Ranges: []forward.Range{r}}.String()
}
