package upnp

import (
	"strconv"
	"strings"
)

// An Arg is an argument of an action.
type Arg struct{ Name, Value string }

// Args are the arguments of an action, in their order.
type Args []Arg

// Get is the value of an argument, and whether there is one.
func (a Args) Get(name string) (string, bool) {
	for _, arg := range a {
		if arg.Name == name {
			return arg.Value, true
		}
	}
	return "", false
}

// Of is the value of an argument, "" where there is none.
func (a Args) Of(name string) string {
	value, _ := a.Get(name)
	return value
}

// A Call is an action that is asked of a service, or the answer of one (UDA 1.1, section 3.1).
type Call struct {
	Service string // its type, with the version
	Action  string
	Args    Args
}

// MaxArgs is how many arguments a call has at most. AddPortMapping has eight.
const MaxArgs = 64

// SOAPAction is the value of the header SOAPAction of a call.
func (c *Call) SOAPAction() string { return `"` + c.Service + "#" + c.Action + `"` }

// ParseSOAPAction reads that header; some clients leave out its quotes.
func ParseSOAPAction(s string) (service, action string, ok bool) {
	s = strings.Trim(strings.TrimSpace(s), `"`)
	i := strings.LastIndexByte(s, '#')
	if i <= 0 || i == len(s)-1 || len(s) > 256 {
		return "", "", false
	}
	return s[:i], s[i+1:], true
}

const (
	envelope    = declaration + `<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/" s:encodingStyle="http://schemas.xmlsoap.org/soap/encoding/"><s:Body>`
	envelopeEnd = "</s:Body></s:Envelope>\r\n"
)

// Append writes the body of the call.
func (c *Call) Append(b []byte) []byte { return c.append(b, "") }

// AppendAnswer writes the body of the answer to a call: the same service and action, and what comes out of it.
func (c *Call) AppendAnswer(b []byte) []byte { return c.append(b, "Response") }

func (c *Call) append(b []byte, suffix string) []byte {
	w := &writer{b}
	w.raw(envelope, "<u:", c.Action, suffix, ` xmlns:u="`)
	w.escape(c.Service)
	w.raw(`">`)
	for _, a := range c.Args {
		w.leaf(a.Name, a.Value)
	}
	w.raw("</u:", c.Action, suffix, ">", envelopeEnd)
	return w.b
}

// ParseCall reads the body of a call.
func ParseCall(b []byte) (Call, error) {
	e, err := soapBody(b)
	if err != nil {
		return Call{}, err
	}
	return call(e)
}

// ParseAnswer reads the body of an answer. Where that is a fault, so is the error (*Fault).
func ParseAnswer(b []byte) (Call, error) {
	e, err := soapBody(b)
	if err != nil {
		return Call{}, err
	}
	if e.name == "Fault" {
		return Call{}, fault(e)
	}
	action, ok := strings.CutSuffix(e.name, "Response")
	if !ok {
		return Call{}, bad("no answer, but a <%.40s>", e.name)
	}
	c, err := call(e)
	c.Action = action
	return c, err
}

// soapBody is what is in the body of an envelope. The namespaces of SOAP itself are not looked at: clients get them wrong.
func soapBody(b []byte) (*element, error) {
	root, err := parse(b)
	if err != nil {
		return nil, err
	}
	body := root.child("Body")
	if root.name != "Envelope" || body == nil || len(body.children) == 0 {
		return nil, bad("no envelope with a body, but a <%.40s>", root.name)
	}
	return body.children[0], nil
}

func call(e *element) (Call, error) {
	if len(e.children) > MaxArgs {
		return Call{}, bad("%d arguments; %d are the most", len(e.children), MaxArgs)
	}
	c := Call{Service: e.space, Action: e.name}
	if len(e.children) > 0 {
		c.Args = make(Args, 0, len(e.children))
	}
	for _, a := range e.children {
		if _, twice := c.Args.Get(a.name); twice {
			return Call{}, bad("the argument %.40s is there twice", a.name)
		}
		c.Args = append(c.Args, Arg{a.name, a.text})
	}
	return c, nil
}

// A Fault is how a service refuses (UDA 1.1, section 3.1.1). It comes with HTTP's status 500.
type Fault struct {
	Code        int
	Description string
}

func (f *Fault) Error() string {
	return "UPnP error " + strconv.Itoa(f.Code) + " (" + f.Description + ")"
}

// Is reports whether target is a fault of the same code.
func (f *Fault) Is(target error) bool {
	t, ok := target.(*Fault)
	return ok && t.Code == f.Code
}

// Append writes the body of the fault.
func (f *Fault) Append(b []byte) []byte {
	w := &writer{b}
	w.raw(envelope, "<s:Fault><faultcode>s:Client</faultcode><faultstring>UPnPError</faultstring><detail>",
		`<UPnPError xmlns="urn:schemas-upnp-org:control-1-0">`)
	w.leaf("errorCode", strconv.Itoa(f.Code))
	w.leaf("errorDescription", f.Description)
	w.raw("</UPnPError></detail></s:Fault>", envelopeEnd)
	return w.b
}

func fault(e *element) error {
	u := e.child("detail").child("UPnPError")
	code, err := strconv.Atoi(u.of("errorCode"))
	if err != nil || code < 0 {
		return bad("a fault without a code: %.80q", e.of("faultstring"))
	}
	return &Fault{code, u.of("errorDescription")}
}
