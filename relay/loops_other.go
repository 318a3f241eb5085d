//go:build !linux

package relay

import "context"

// loops would be the engine's; these systems have none.
type loops struct{ off bool }

func (*loops) stop() {}

func (*Relay) takeOver(context.Context, *listener) door { return nil }

func (*listener) wishesChanged() {}

func (*Relay) handOver(*stream) bool { return false }
