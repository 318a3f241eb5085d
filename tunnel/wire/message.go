package wire

import (
	"fmt"
	"net/netip"
)

// The flags of HELLO.
const (
	FlagResume = 1 << iota // the session has to be there
	FlagJoin               // the agent asks to be enrolled, by Secret
)

// A Hello is the first frame of both ends.
type Hello struct {
	Lowest, Highest uint64 // versions
	Session         [16]byte
	Flags           uint64
	Keep            uint64 // how long a session is kept without a link, in milliseconds; the hub's
	Name            string
	Program         string
	Secret          string
}

// Append writes the frame.
func (h *Hello) Append(b []byte) []byte {
	b, at := begin(b, TypeHello)
	b = AppendVarint(AppendVarint(b, h.Lowest), h.Highest)
	b = append(b, h.Session[:]...)
	b = AppendVarint(AppendVarint(b, h.Flags), h.Keep)
	b = appendText(appendText(b, h.Name, maxName), h.Program, maxName)
	return finish(appendText(b, h.Secret, maxText), at)
}

// ParseHello reads the body of a HELLO. What a later version added at its end is passed over. Of a version that is not ours, nothing but
// the versions is sure to be there: they are returned with the error.
func ParseHello(body []byte) (h Hello, err error) {
	r := reader{b: body}
	h.Lowest, h.Highest = r.number(), r.number()
	copy(h.Session[:], r.bytes(len(h.Session)))
	h.Flags, h.Keep = r.number(), r.number()
	h.Name, h.Program, h.Secret = r.text(maxName), r.text(maxName), r.text(maxText)
	if r.err != nil {
		return h, &FrameError{TypeHello, r.err}
	}
	return h, nil
}

// A Word is a code and a text: REFUSE and LEAVE.
type Word struct {
	Code uint64
	Text string
}

// Append writes the frame, which is REFUSE or LEAVE.
func (w *Word) Append(b []byte, t Type) []byte {
	b, at := begin(b, t)
	return finish(appendText(AppendVarint(b, w.Code), w.Text, maxText), at)
}

// ParseWord reads a body of either.
func ParseWord(t Type, body []byte) (w Word, err error) {
	r := reader{b: body}
	w.Code, w.Text = r.number(), r.text(maxText)
	return w, wrap(t, r.end())
}

// An Open begins a stream or a flow.
type Open struct {
	Stream   uint64
	Window   uint64 // how many bytes may come back before the first CREDIT
	Kind     uint64
	Network  string
	Address  string
	Listener uint64
	Client   netip.AddrPort
	Local    netip.AddrPort
	Agent    string
}

// Append writes the frame.
func (o *Open) Append(b []byte) []byte {
	b, at := begin(b, TypeOpen)
	b = AppendVarint(AppendVarint(AppendVarint(b, o.Stream), o.Window), o.Kind)
	b = AppendVarint(appendText(appendText(b, o.Network, maxName), o.Address, maxText), o.Listener)
	b = appendAddress(appendAddress(b, o.Client), o.Local)
	return finish(appendText(b, o.Agent, maxName), at)
}

// ParseOpen reads the body of an OPEN.
func ParseOpen(body []byte) (o Open, err error) {
	r := reader{b: body}
	o.Stream, o.Window, o.Kind = r.number(), r.number(), r.number()
	o.Network, o.Address, o.Listener = r.text(maxName), r.text(maxText), r.number()
	o.Client, o.Local, o.Agent = r.address(), r.address(), r.text(maxName)
	return o, wrap(TypeOpen, r.end())
}

// Fits reports whether o can be said as it is: an address that was cut short would be another.
func (o *Open) Fits() error {
	switch {
	case len(o.Network) > maxName:
		return fmt.Errorf("the name of the network has %d bytes; %d is the most", len(o.Network), maxName)
	case len(o.Address) > maxText:
		return fmt.Errorf("the address has %d bytes; %d is the most", len(o.Address), maxText)
	case len(o.Agent) > maxName:
		return fmt.Errorf("the agent's name has %d bytes; %d is the most", len(o.Agent), maxName)
	}
	return nil
}

// An Answer is to OPEN.
type Answer struct {
	Stream  uint64
	Code    uint64 // 0: it is open
	Window  uint64 // as Open.Window, for the other direction
	Text    string
	Address string // that was dialled from
}

// Append writes the frame.
func (a *Answer) Append(b []byte) []byte {
	b, at := begin(b, TypeAnswer)
	b = AppendVarint(AppendVarint(AppendVarint(b, a.Stream), a.Code), a.Window)
	return finish(appendText(appendText(b, a.Text, maxText), a.Address, maxText), at)
}

// ParseAnswer reads the body of an ANSWER.
func ParseAnswer(body []byte) (a Answer, err error) {
	r := reader{b: body}
	a.Stream, a.Code, a.Window = r.number(), r.number(), r.number()
	a.Text, a.Address = r.text(maxText), r.text(maxText)
	return a, wrap(TypeAnswer, r.end())
}

// A Request asks for something to be done. Payload is MaxPayload bytes at most.
type Request struct {
	Number  uint64
	Name    string
	Payload []byte
}

// Append writes the frame.
func (q *Request) Append(b []byte) []byte {
	b, at := begin(b, TypeRequest)
	b = appendText(AppendVarint(b, q.Number), q.Name, maxName)
	return finish(append(b, q.Payload...), at)
}

// ParseRequest reads the body of a REQUEST. Payload is a part of it.
func ParseRequest(body []byte) (q Request, err error) {
	r := reader{b: body}
	q.Number, q.Name = r.number(), r.text(maxName)
	q.Payload = r.b
	if r.err == nil && len(q.Payload) > MaxPayload {
		r.fail(fmt.Errorf("its payload is longer than %d bytes", MaxPayload))
	}
	return q, wrap(TypeRequest, r.err)
}

// A Reply is to REQUEST. Payload is MaxPayload bytes at most.
type Reply struct {
	Number  uint64
	Code    uint64 // 0: it is done
	Text    string
	Payload []byte
}

// Append writes the frame.
func (p *Reply) Append(b []byte) []byte {
	b, at := begin(b, TypeReply)
	b = appendText(AppendVarint(AppendVarint(b, p.Number), p.Code), p.Text, maxText)
	return finish(append(b, p.Payload...), at)
}

// ParseReply reads the body of a REPLY. Payload is a part of it.
func ParseReply(body []byte) (p Reply, err error) {
	r := reader{b: body}
	p.Number, p.Code, p.Text = r.number(), r.number(), r.text(maxText)
	p.Payload = r.b
	if r.err == nil && len(p.Payload) > MaxPayload {
		r.fail(fmt.Errorf("its payload is longer than %d bytes", MaxPayload))
	}
	return p, wrap(TypeReply, r.err)
}

func wrap(t Type, err error) error {
	if err == nil {
		return nil
	}
	return &FrameError{t, err}
}
