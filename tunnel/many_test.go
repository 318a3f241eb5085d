package tunnel_test

import (
	"context"
	"fmt"
	"io"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/fairlead-net/fairlead/tunnel"
	"github.com/fairlead-net/fairlead/tunnel/tunneltest"
)

// TestManyConnections has a hundred thousand connections pass over one tunnel, whose links are lost now and then. Nothing is left of them: no
// goroutine, and no memory that would grow with their number.
func TestManyConnections(t *testing.T) {
	const workers, rounds = 200, 5
	each := 100
	if testing.Short() || raced {
		each = 10
	}
	links(t, func(t *testing.T, o tunneltest.Options) {
		d := newDuo(t, o, tunnel.Options{})
		d.agent.opened = once
		d.mustConnect()
		round := func() {
			var all sync.WaitGroup
			for range workers {
				all.Go(func() {
					for range each {
						if err := d.exchange(); err != nil {
							t.Error(err)
							return
						}
					}
				})
			}
			all.Wait()
			d.settles()
		}
		round() // what is kept for good is there then
		memory, goroutines := inUse(), runtime.NumGoroutine()
		for range rounds - 1 {
			l := d.mustConnect() // the one before is left
			round()
			l.Cut()
			d.mustConnect()
		}
		for range 6000 {
			if runtime.NumGoroutine() <= goroutines+2 {
				break
			}
			time.Sleep(5 * time.Millisecond)
		}
		if n := runtime.NumGoroutine(); n > goroutines+2 { // of a link that is being left
			t.Errorf("%d goroutines, and there were %d", n, goroutines)
		}
		grown := inUse() - memory
		t.Logf("%d kB more after %d connections", grown>>10, each*workers*rounds)
		if grown > 4<<20 {
			t.Errorf("%d bytes more than after the first %d connections", grown, each*workers)
		}
	})
}

// exchange is one short connection, opened at the hub.
func (d *duo) exchange() error {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	st, err := d.hub.Open(ctx, tcp("x:1"))
	if err != nil {
		return err
	}
	defer st.Close()
	b := make([]byte, 200)
	if _, err := st.Write(b); err != nil {
		return err
	}
	if err := st.CloseWrite(); err != nil {
		return err
	}
	if n, err := io.ReadFull(st, b); err != nil {
		return fmt.Errorf("%d of %d bytes came back: %w", n, len(b), err)
	}
	if n, err := st.Read(b); n > 0 || err != io.EOF {
		return fmt.Errorf("%d bytes more came back: %w", n, err)
	}
	return nil
}

// once sends back what exchange sends.
func once(a *tunnel.Arrival) {
	st, err := a.Accept(nil)
	if err != nil {
		return
	}
	go func() {
		defer st.Close()
		b := make([]byte, 201)
		n, _ := io.ReadFull(st, b)
		_, _ = st.Write(b[:n])
	}()
}

// inUse is how much memory the program has, without what can be collected.
func inUse() int {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc + m.StackInuse)
}
