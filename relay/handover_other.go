//go:build !linux

package relay

import (
	"context"
	"net"
)

// CanHandOver reports whether this system hands sockets to the next process.
const CanHandOver = false

func (r *Relay) leave() { r.shutDown() }

// inherited would be what an earlier process left.
type inherited struct{}

func inherit(*Handover) inherited { return inherited{} }

func (*inherited) take(place) net.Listener { return nil }

func (*inherited) takePackets(place) net.PacketConn { return nil }

func (*Relay) resume(context.Context) {}
