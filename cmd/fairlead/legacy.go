package main

import (
	"fmt"

	"github.com/fairlead-net/fairlead/hub"
	"github.com/fairlead-net/fairlead/node/agent"
	"github.com/fairlead-net/fairlead/relay"
)

// A legacy is what the daemon leaves to the process that comes after it, beside descriptors that stay open. It is plain data, for any
// encoding; relay.HandoverFormat is the version of all of it.
type legacy struct {
	Relay *relay.Handover
	Hub   *hubLegacy    // nil: this host is no hub
	Agent *agent.Frozen // of the session with this host's hub; nil: it has none
}

// A hubLegacy is a hub without its streams' forwards, which are the relay's.
type hubLegacy struct {
	At       string // the address of its port
	TCP, UDP int    // the sockets there; -1: none
	Agents   []hub.Frozen
}

// descriptors is every descriptor that l speaks of.
func (l *legacy) descriptors() []int {
	var fds []int
	for _, p := range l.parts() {
		fds = append(fds, p.Descriptors()...)
	}
	return fds
}

// renumber has l speak of other descriptors, given in the order of descriptors: the same sockets by the numbers that they have in another
// process.
func (l *legacy) renumber(fds []int) error {
	if want := len(l.descriptors()); want != len(fds) {
		return fmt.Errorf("there are %d descriptors, and %d are spoken of", len(fds), want)
	}
	for _, p := range l.parts() {
		n := len(p.Descriptors())
		if err := p.Renumber(fds[:n]); err != nil {
			return err
		}
		fds = fds[n:]
	}
	return nil
}

// listeners is l with nothing but what is listened at.
func (l *legacy) listeners() *legacy {
	few := &legacy{Relay: &relay.Handover{Listeners: l.Relay.Listeners, NextID: l.Relay.NextID}}
	if l.Hub != nil {
		few.Hub = &hubLegacy{At: l.Hub.At, TCP: l.Hub.TCP, UDP: l.Hub.UDP}
	}
	return few
}

// counted is how much l is, for the log.
func (l *legacy) counted() []any {
	list := []any{"listeners", len(l.Relay.Listeners), "sessions", len(l.Relay.Sessions) + len(l.Relay.Borne), "flows", len(l.Relay.Flows)}
	if l.Hub != nil {
		list = append(list, "agents", len(l.Hub.Agents))
	}
	return list
}

// A heirloom is a part of a legacy that has descriptors.
type heirloom interface {
	Descriptors() []int
	Renumber(fds []int) error
}

func (l *legacy) parts() (list []heirloom) {
	if l.Relay != nil {
		list = append(list, l.Relay)
	}
	if l.Hub != nil {
		list = append(list, (*hubPort)(l.Hub))
		for i := range l.Hub.Agents {
			list = append(list, l.Hub.Agents[i].Far.Session)
		}
	}
	if l.Agent != nil {
		list = append(list, l.Agent.Session)
	}
	return list
}

// whole reports whether l has all that makes it one: it may come from another program.
func (l *legacy) whole() bool {
	if l.Relay == nil || l.Agent != nil && l.Agent.Session == nil {
		return false
	}
	if l.Hub != nil {
		for _, a := range l.Hub.Agents {
			if a.Far == nil || a.Far.Session == nil {
				return false
			}
		}
	}
	return true
}

// A hubPort is the sockets of a hubLegacy.
type hubPort hubLegacy

// Descriptors is those that there are.
func (p *hubPort) Descriptors() []int {
	var fds []int
	for _, fd := range p.sockets() {
		fds = append(fds, *fd)
	}
	return fds
}

// Renumber has them be others, in the order of Descriptors.
func (p *hubPort) Renumber(fds []int) error {
	for i, fd := range p.sockets() {
		*fd = fds[i]
	}
	return nil
}

func (p *hubPort) sockets() (list []*int) {
	for _, fd := range []*int{&p.TCP, &p.UDP} {
		if *fd >= 0 {
			list = append(list, fd)
		}
	}
	return list
}
