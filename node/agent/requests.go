package agent

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"github.com/fairlead-net/fairlead/forward"
)

// The requests that the ends make of each other: docs/protocol.md, "Requests".
const (
	askListen   = "listen"
	askServe    = "serve"
	askUnlisten = "unlisten"
	askClosed   = "closed"
	askTold     = "told"
)

// maxRequest is how long a payload may be, in bytes, before anything of it is read.
const maxRequest = 16 << 10

// A ListenRequest asks the other end to listen. Asked again with the same id, or by the same end for the same place in a later
// session, it is the same listener.
type ListenRequest struct {
	ID      uint64 `json:"id"`
	Network string `json:"network"` // "tcp", "tcp4", "tcp6", "udp", "udp4" or "udp6"
	Address string `json:"address,omitempty"`
	Port    uint16 `json:"port,omitempty"`   // 0: the other end picks one
	Prefer  uint16 `json:"prefer,omitempty"` // the one that it picked before
}

// A ServeRequest asks the other end to listen for the clients who call one of several names, on a port that it may share. It is a request
// of its own because an end that knows no names would listen for everybody.
type ServeRequest struct {
	ListenRequest
	Names    []string `json:"names"`
	TLS      string   `json:"tls,omitempty"`      // "acme": it is ended there; else it passes through
	Redirect bool     `json:"redirect,omitempty"` // to https://, where clients speak HTTP without TLS
}

// A ListenReply says where the other end listens.
type ListenReply struct {
	Address string `json:"address,omitempty"`
	Port    uint16 `json:"port"`
}

// An UnlistenRequest ends a listener.
type UnlistenRequest struct {
	ID uint64 `json:"id"`
}

// A ClosedRequest says that a listener was closed by the end that listened.
type ClosedRequest struct {
	ID  uint64 `json:"id"`
	Why string `json:"why"`
}

// Told is what a hub tells an agent about itself, at first and whenever it changes.
type Told struct {
	Name string   `json:"name"`          // of the agent
	May  []string `json:"may,omitempty"` // what it may do, in words
}

// Longest texts of requests, in bytes.
const (
	maxName = forward.MaxNameLen
	maxLine = 1024
	maxMay  = 64
)

var errRequest = errors.New("the request makes no sense")

func parseRequest(payload []byte, into any) error {
	if len(payload) > maxRequest {
		return fmt.Errorf("%w: it is %d bytes long, and %d is the most", errRequest, len(payload), maxRequest)
	}
	if err := json.Unmarshal(payload, into); err != nil {
		return fmt.Errorf("%w: %w", errRequest, err)
	}
	return nil
}

// parseListen reads what somebody wants listened for. An id of 0 is none.
func parseListen(payload []byte) (r ListenRequest, d forward.Door, err error) {
	if err := parseRequest(payload, &r); err != nil {
		return r, d, err
	}
	d, err = r.door()
	return r, d, err
}

func (r ListenRequest) door() (d forward.Door, err error) {
	if r.ID == 0 {
		return d, fmt.Errorf("%w: a listener has no id", errRequest)
	}
	if d.Listen, err = listenOf(r.Network, r.Address, r.Port); err != nil {
		return d, fmt.Errorf("%w: %w", errRequest, err)
	}
	return d, nil
}

// parseServe reads what somebody wants listened for by name.
func parseServe(payload []byte) (r ServeRequest, d forward.Door, err error) {
	if err := parseRequest(payload, &r); err != nil {
		return r, d, err
	}
	if d, err = r.door(); err != nil {
		return r, d, err
	}
	if d.Hosts, d.RedirectHTTPS = r.Names, r.Redirect; len(d.Hosts) == 0 || r.Port == 0 {
		return r, d, fmt.Errorf("%w: it has no name, or no port", errRequest)
	}
	if d.TLS, err = forward.ParseTLS(r.TLS); err == nil {
		err = d.Check()
	}
	if err != nil {
		return r, d, fmt.Errorf("%w: %w", errRequest, err)
	}
	return r, d, nil
}

// listenOf is the place that a network and an address of package net stand for. Port 0 is one range of port 0.
func listenOf(network, address string, port uint16) (forward.Listen, error) {
	l := forward.Listen{Ports: forward.Ports{Ranges: []forward.Range{{First: port, Last: port}}}}
	kind, family := strings.TrimRight(network, "46"), ""
	if len(network) == len(kind)+1 {
		family = network[len(kind):]
	}
	switch {
	case len(network) > len(kind)+1:
		return l, fmt.Errorf("%q is no network", network)
	case kind == "tcp":
		l.Networks = forward.TCP
	case kind == "udp":
		l.Networks = forward.UDP
	default:
		return l, fmt.Errorf("%q is no network to listen on: it is tcp or udp, with 4 or 6 behind it or not", network)
	}
	switch {
	case address == "" && family == "4":
		l.Addr = netip.IPv4Unspecified()
	case address == "" && family == "6":
		l.Addr = netip.IPv6Unspecified()
	case address == "localhost":
		l.Addr = netip.AddrFrom4([4]byte{127, 0, 0, 1})
	case address != "":
		addr, err := netip.ParseAddr(address)
		addr = addr.Unmap()
		switch {
		case err != nil:
			return l, fmt.Errorf("%q is no IP address to listen at", clean(address))
		case addr.Zone() != "" || addr.IsMulticast():
			return l, fmt.Errorf("%s is not an address of one host", clean(address))
		case family == "4" && !addr.Is4() || family == "6" && addr.Is4():
			return l, fmt.Errorf("%s is no address for %s", addr, network)
		}
		l.Addr = addr
	}
	return l, nil
}

func parseUnlisten(payload []byte) (r UnlistenRequest, err error) {
	return r, parseRequest(payload, &r)
}

func parseClosed(payload []byte) (r ClosedRequest, err error) {
	err = parseRequest(payload, &r)
	r.Why = clean(r.Why)
	return r, err
}

func parseTold(payload []byte) (t Told, err error) {
	if err := parseRequest(payload, &t); err != nil {
		return Told{}, err
	}
	if len(t.Name) > maxName || len(t.May) > maxMay {
		return Told{}, fmt.Errorf("%w: it says too much", errRequest)
	}
	t.Name = clean(t.Name)
	for i := range t.May {
		t.May[i] = clean(t.May[i])
	}
	return t, nil
}

func parseReply(payload []byte) (addr netip.Addr, port uint16, err error) {
	var r ListenReply
	if err := parseRequest(payload, &r); err != nil {
		return addr, 0, err
	}
	if r.Address != "" {
		if addr, err = netip.ParseAddr(r.Address); err != nil {
			return addr, 0, fmt.Errorf("%w: %w", errRequest, err)
		}
	}
	if r.Port == 0 {
		return addr, 0, fmt.Errorf("%w: port 0", errRequest)
	}
	return addr, r.Port, nil
}

// encode makes a payload of a request. What is encoded here always can be.
func encode(request any) []byte {
	b, err := json.Marshal(request)
	if err != nil {
		panic(err)
	}
	return b
}

// clean makes text of the other end's fit for a log and a terminal.
func clean(s string) string {
	if len(s) > maxLine {
		s = s[:maxLine] + "…"
	}
	return strings.TrimSpace(strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 || r == '\ufffd' {
			return ' '
		}
		return r
	}, s))
}
