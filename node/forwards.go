package node

import (
	"context"

	"github.com/fairlead-net/fairlead/forward"
)

// Forwards takes what somebody at the far end of a connection asks to have forwarded to it: a client of an SSH server (-R), or
// an agent of a hub.
type Forwards interface {
	// Put opens a listener whose connections are dialled from n. Again with the same key, which says who asks, and the same door it
	// replaces what there was, at once. bound is where it listens: with port 0 asked, the one picked. A door that another key holds is
	// an error.
	Put(ctx context.Context, key string, door forward.Door, n Node) (name string, bound forward.Door, err error)
	// Delete closes the listener, if it still is n's.
	Delete(ctx context.Context, name string, n Node) error
}
