//go:build !linux

package relay

import (
	"context"
	"net"

	"github.com/fairlead-net/fairlead/node"
)

// CanHandOver reports whether this system hands sockets to the next process.
const CanHandOver = false

func (r *Relay) leave() { r.shutDown() }

// inherited would be what an earlier process left.
type inherited struct{}

func inherit(*Handover, bool) inherited { return inherited{} }

func (*inherited) take(place) net.Listener { return nil }

func (*inherited) takePackets(place) net.PacketConn { return nil }

func (*Relay) resume(context.Context) {}

// Adopt would say how a node is to carry on what an earlier process has left.
func (*Relay) Adopt(string) (node.BearOptions, bool) { return node.BearOptions{}, false }

// Adopted would be told what nodes carry now.
func (*Relay) Adopted([]node.Lasting) {}

// LetGo would end the patience with what an earlier process has left.
func (*Relay) LetGo(context.Context) {}
