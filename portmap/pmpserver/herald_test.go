package pmpserver

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fairlead-net/fairlead/portmap"
)

// TestAnnouncementsAreRepeated has a clock of its own.
func TestAnnouncementsAreRepeated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lan := []portmap.Place{{Interface: net.Interface{Index: 3}, Addrs: []netip.Prefix{netip.MustParsePrefix("192.168.1.1/24")}}}
		places, changed := lan, make(chan struct{})
		begin := time.Now()
		var at []time.Duration
		var mu sync.Mutex // of all of these
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() {
			ended <- repeat(ctx, func() <-chan struct{} {
				mu.Lock()
				defer mu.Unlock()
				return changed
			}, func() []portmap.Place {
				mu.Lock()
				defer mu.Unlock()
				return places
			}, func([]portmap.Place) {
				mu.Lock()
				defer mu.Unlock()
				at = append(at, time.Since(begin))
			})
		}()
		check := func(what string, want ...time.Duration) {
			t.Helper()
			time.Sleep(5 * time.Minute)
			synctest.Wait()
			mu.Lock()
			defer mu.Unlock()
			if !slices.Equal(at, want) {
				t.Errorf("%s: announced after %v, want %v", what, at, want)
			}
			at, begin = nil, time.Now()
		}
		ms := func(list ...int) (out []time.Duration) {
			for _, n := range list {
				out = append(out, time.Duration(n)*time.Millisecond)
			}
			return out
		}
		start := ms(0, 250, 750, 1750, 3750, 7750, 15750, 31750, 63750, 127750)
		check("at the start", start...)
		news := func() {
			mu.Lock()
			old := changed
			changed = make(chan struct{})
			mu.Unlock()
			close(old)
			synctest.Wait()
		}
		news()
		check("at a change", start...)
		news()
		news()
		news()
		check("at changes one after the other", append(ms(0), ms(250, 500, 1000, 2000, 4000, 8000, 16000, 32000, 64000, 128000)...)...)
		mu.Lock()
		places = append(slices.Clone(lan), portmap.Place{Interface: net.Interface{Index: 4}})
		mu.Unlock()
		// It is seen at the next look, which is three seconds after the five minutes.
		check("at a new interface", ms(3000, 3250, 3750, 4750, 6750, 10750, 18750, 34750, 66750, 130750)...)
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}
