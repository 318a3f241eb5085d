package publish

import (
	"context"
	"errors"
	"net/netip"
	"time"

	"github.com/fairlead-net/fairlead/forward"
	"github.com/fairlead-net/fairlead/portmap"
)

// An ask is one mapping that is asked for.
type ask struct {
	network  forward.Networks // TCP or UDP
	client   netip.Addr       // this host, as the gateway sees it
	internal uint16           // at client
	external uint16           // that would be best; 0: any
	lifetime time.Duration
	describe string
}

// A grant is a mapping as the gateway made it.
type grant struct {
	public   netip.AddrPort
	lifetime time.Duration // 0: for ever, or until the gateway restarts
	id       int           // of a UPnP pinhole
}

// A mapper is one protocol of one gateway. Each of its methods takes a bounded time; the errors are refusals.
type mapper interface {
	protocol() portmap.Protocol
	// external is the address that mappings are reached at.
	external(ctx context.Context) (netip.Addr, error)
	// add makes a mapping, or renews the one that was granted before. Where the gateway does not pick another port when the one that is
	// asked for is taken, add tries others.
	add(ctx context.Context, a ask, before *grant) (grant, error)
	// holds reports whether the gateway still has the mapping. err: it did not say.
	holds(ctx context.Context, a ask, g grant) (bool, error)
	remove(ctx context.Context, a ask, g grant) error
}

// asRefusal is err as a refusal; what is none, a gateway that does not answer, say, is KindFailed.
func asRefusal(err error) *refusal {
	var r *refusal
	if errors.As(err, &r) {
		return r
	}
	return &refusal{kind: KindFailed, text: err.Error()}
}

// silent reports whether nobody answered, so that something else may be there now.
func silent(err error) bool {
	r := asRefusal(err)
	return r.kind == KindSilent || r.code == 0
}
