package pmpserver

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/fairlead-net/fairlead/portmap"
	"github.com/fairlead-net/fairlead/portmap/pcp"
)

// BenchmarkMap is one client that has some requests on the way at a time, with a Desk that takes no time: what the way of a request costs.
func BenchmarkMap(b *testing.B) {
	for _, leases := range []int{0, 20_000} {
		for _, window := range []int{1, 64} {
			b.Run(fmt.Sprintf("leases=%d/window=%d", leases, window), func(b *testing.B) {
				desk := newDesk()
				for i := range leases {
					addr := netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)})
					desk.Map(b.Context(), []portmap.Request{{Key: portmap.Key{Network: 1, Internal: netip.AddrPortFrom(addr, uint16(i))}, External: uint16(2000 + i)}})
				}
				_, port := running(b, Options{Desk: desk, Rate: 1 << 30})
				h := dial(b, "udp4", "127.0.0.10", "127.0.0.1", port)
				h.ask([]byte{0, 0})
				requests := make([][]byte, 1000)
				for i := range requests {
					requests[i] = mapRequest(uint16(30_000+i), func(r *pcp.Request) { r.Nonce[1] = byte(i) })
				}
				b.ResetTimer()
				for sent, answered := 0, 0; answered < b.N; {
					for ; sent < b.N && sent-answered < window; sent++ {
						h.send(requests[sent%len(requests)])
					}
					if h.receive(patience) == nil {
						b.Fatal("an answer is missing")
					}
					answered++
				}
				b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "maps/s")
			})
		}
	}
}
