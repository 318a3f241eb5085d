package link

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fairlead-net/fairlead/tunnel"
	"github.com/fairlead-net/fairlead/tunnel/tunneltest"
)

var errNoNetwork = errors.New("there is no network")

// offline is a dialer of an agent that has no network, with how often it has wanted a socket of TCP.
func offline(t *testing.T, transports ...string) (*Dialer, *atomic.Int64) {
	t.Helper()
	d, err := NewDialer(DialOptions{Identity: identity(t), Hub: []string{"192.0.2.1:443"}, Key: tunnel.Key{1}, Transports: transports, Proxy: NoProxy})
	if err != nil {
		t.Fatal(err)
	}
	var wanted atomic.Int64
	d.in = func(func() error) error {
		wanted.Add(1)
		return errNoNetwork
	}
	return d, &wanted
}

// TestADayWithoutNetwork: an agent tries several times in a second, as long as sessions are kept, and then now and then.
func TestADayWithoutNetwork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, wanted := offline(t, TLS)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() {
			_, err := d.Redial(ctx, nil)
			ended <- err
		}()
		during := func(wait time.Duration) int {
			before := wanted.Load()
			time.Sleep(wait)
			return int(wanted.Load() - before)
		}
		if n := during(5 * time.Minute); n < 5*60/2 || n > 5*60*3 {
			t.Errorf("%d tries in the first five minutes", n)
		}
		time.Sleep(time.Minute)
		if n := during(23 * time.Hour); n < 23*3600/23 || n > 23*3600/7 { // every 7.5 to 22.5 s
			t.Errorf("%d tries in 23 hours", n)
		}
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) || !errors.Is(err, errNoNetwork) {
			t.Errorf("in the end: %v", err)
		}
	})
}

// TestADayOfLooking: an agent that has a link looks for a better one less and less often.
func TestADayOfLooking(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, wanted := offline(t)
		have, _ := tunneltest.Pair(tunneltest.Options{Transport: TLS})
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() {
			_, err := d.Upgrade(ctx, have)
			ended <- err
		}()
		time.Sleep(time.Minute)
		first := wanted.Load()
		time.Sleep(24*time.Hour - time.Minute)
		if n := wanted.Load() - first; first < 2 || n < 24 || n > 300 {
			t.Errorf("it was looked %d times in the first minute, and %d times in the day after it", first, n)
		}
		have.Cut()
		if err := <-ended; !errors.Is(err, tunneltest.ErrCut) {
			t.Errorf("in the end: %v", err)
		}
		cancel()
	})
}

// TestCenturies: keys have no date. A machine whose clock begins in the year 2000 when it starts is one like any other, and so is one that was left alone for
// long.
func TestCenturies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		agent, hub := identity(t), identity(t)
		for range 3 {
			near, far := net.Pipe()
			a, h := tls.Client(near, agentTLS(agent, hub.Key())), tls.Server(far, hubTLS(hub))
			shaken := make(chan error)
			go func() { shaken <- h.Handshake() }()
			if err := errors.Join(a.Handshake(), <-shaken); err != nil {
				t.Errorf("in the year %d: %v", time.Now().Year(), err)
			}
			near.Close()
			far.Close()
			time.Sleep(100 * 365 * 24 * time.Hour)
		}
	})
}
