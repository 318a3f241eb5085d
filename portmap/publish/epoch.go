package publish

import (
	"sync"
	"time"

	"github.com/fairlead-net/fairlead/portmap"
	"github.com/fairlead-net/fairlead/portmap/natpmp"
	"github.com/fairlead-net/fairlead/portmap/pcp"
)

// epochs is the clocks of a gateway, by which it shows that it has lost its mappings.
type epochs struct {
	mu     sync.Mutex
	start  time.Time // of our own clock
	pcp    *pcp.Sample
	natpmp *natpmp.Sample
}

// saw takes down an epoch, and reports whether the gateway has lost what it had at the one before.
func (e *epochs) saw(p portmap.Protocol, epoch uint32) (lost bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.start.IsZero() {
		e.start = time.Now()
	}
	at := time.Since(e.start)
	if p == portmap.PCP {
		now := pcp.Sample{Epoch: epoch, At: at}
		lost = e.pcp != nil && !now.Continues(*e.pcp)
		e.pcp = &now
		return lost
	}
	now := natpmp.Sample{Epoch: epoch, At: at}
	lost = e.natpmp != nil && !now.Continues(*e.natpmp)
	e.natpmp = &now
	return lost
}

// epoch is called with every epoch that the gateway says.
func (g *gateway) epoch(p portmap.Protocol, epoch uint32) {
	if g.epochs.saw(p, epoch) {
		g.lost(g, "its clock says that it has started anew")
	}
}
