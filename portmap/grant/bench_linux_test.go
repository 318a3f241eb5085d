package grant

import (
	"context"
	"fmt"
	"path/filepath"
	"testing"

	"github.com/fairlead-net/fairlead/forward"
	"github.com/fairlead-net/fairlead/internal/netlab"
	"github.com/fairlead-net/fairlead/kernel"
	"github.com/fairlead-net/fairlead/store"
)

// inside is a kernel carrier that works in the namespace of a host.
type inside struct {
	*kernel.Carrier
	host *netlab.Node
}

func (c *inside) Apply(ctx context.Context, want forward.List) (bad map[string]error) {
	_ = c.host.Do(func() error { bad = c.Carrier.Apply(ctx, want); return nil })
	return bad
}

func (c *inside) Stats() (s map[string]forward.Stats) {
	_ = c.host.Do(func() error { s = c.Carrier.Stats(); return nil })
	return s
}

func (c *inside) Lost() (lost bool) {
	_ = c.host.Do(func() error { lost = c.Carrier.Lost(); return nil })
	return lost
}

// BenchmarkMapKernel is BenchmarkMap with nftables and a state file.
func BenchmarkMapKernel(b *testing.B) {
	for _, many := range []int{0, 20_000} {
		for _, batch := range []int{1, 64} {
			for name, run := range map[string]func(*testing.B, *Desk, int){"new": benchNew, "renew": benchRenew} {
				b.Run(fmt.Sprintf("%s/beside=%d/batch=%d", name, many, batch), func(b *testing.B) {
					topology := netlab.Gateway(b)
					topology.Router.Forwarding(b)
					s, err := store.Open(filepath.Join(b.TempDir(), "state.db"))
					if err != nil {
						b.Fatal(err)
					}
					c := &inside{Carrier: kernel.New(kernel.Options{}), host: topology.Router}
					b.Cleanup(func() {
						if err := c.Close(); err != nil {
							b.Error(err)
						}
						s.Close()
					})
					probe := func() (f kernel.Facts, err error) {
						_ = topology.Router.Do(func() error { f, err = kernel.Probe(); return nil })
						return f, err
					}
					run(b, benchDesk(b, c, s, probe, many), batch)
				})
			}
		}
	}
}
