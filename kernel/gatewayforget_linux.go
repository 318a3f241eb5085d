package kernel

import (
	"errors"
	"slices"

	"golang.org/x/sys/unix"
)

// forget takes away what was learned about the ports that forwards have claimed just now. Else a host that had such a port would go
// on leaving from it until the mapping has not been used for long, and have the answers to somebody else.
func (g *Gateway) forget(s *nlSocket, plan *gatewayPlan, ch *gatewayChange) error {
	if plan == nil || !plan.spec.Independent || ch.fresh {
		return nil
	}
	for _, e := range ch.add {
		if e.set.role != roleClaimed || e.set.V6 {
			continue
		}
		owner := element{set: gatewaySet(roleOwner, false, e.set.network), key: e.key}
		learned, err := lookUp(s, g.table, owner)
		if err != nil {
			return err
		}
		if learned.key == nil {
			continue
		}
		mapped := element{set: gatewaySet(roleMapped, false, e.set.network), key: learned.data}
		to, err := lookUp(s, g.table, mapped)
		if err != nil {
			return err
		}
		gone := []element{owner}
		if slices.Equal(to.data, learned.key) {
			gone = append(gone, mapped)
		}
		for _, e := range gone { // each by itself: it may end at this moment
			b := newBatch(g.table)
			b.changeElements(unix.NFT_MSG_DELSETELEM, e.set, []element{e}, 1)
			if err := b.commit(s); err != nil && !errors.Is(err, unix.ENOENT) {
				return err
			}
		}
	}
	return nil
}
