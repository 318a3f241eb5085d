package main

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fairlead-net/fairlead/config"
	"github.com/fairlead-net/fairlead/firewall"
	"github.com/fairlead-net/fairlead/forward"
	"github.com/fairlead-net/fairlead/kernel"
)

// firewallsEvery is how often other programs' firewalls are looked at without an occasion: while nobody changes nftables, that is
// one small question to the kernel.
const firewallsEvery = 2 * time.Second

// firewalls has the other firewalls of this host looked after for a daemon.
type firewalls struct {
	guard   *firewall.Guard
	carried func() ([]*forward.Forward, kernel.Facts)
	auto    atomic.Bool
	found   atomic.Pointer[map[string]firewall.Obstacle]
	kick    chan struct{} // capacity 1: a look is asked for
	log     *slog.Logger

	looking sync.Mutex
	down    bool // all has been taken away, and stays so
}

func newFirewalls(carried func() ([]*forward.Forward, kernel.Facts), log *slog.Logger) *firewalls {
	return &firewalls{guard: firewall.New(firewall.Options{Log: log}), carried: carried, kick: make(chan struct{}, 1), log: log}
}

// settle makes s hold at the next look.
func (w *firewalls) settle(s config.Settings) {
	w.auto.Store(s.Coexist == config.CoexistAuto)
	w.soon()
}

// soon asks for a look.
func (w *firewalls) soon() {
	select {
	case w.kick <- struct{}{}:
	default:
	}
}

// note is what is in the way of a forward, or "".
func (w *firewalls) note(name string) string {
	if found := w.found.Load(); found != nil {
		if o, ok := (*found)[name]; ok {
			return o.String()
		}
	}
	return ""
}

// run looks until ctx ends. What other firewalls accept by then they go on accepting, as the kernel goes on carrying.
func (w *firewalls) run(ctx context.Context) error {
	tick := time.NewTicker(firewallsEvery)
	defer tick.Stop()
	said := ""
	for {
		err := w.look(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case err == nil:
			said = ""
		case err.Error() != said: // once for each
			said = err.Error()
			level := slog.LevelWarn
			if errors.Is(err, firewall.ErrNotAllowed) || errors.Is(err, firewall.ErrUnsupported) {
				level = slog.LevelInfo
			}
			w.log.Log(ctx, level, "other firewalls of this host cannot be looked at", "err", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		case <-w.kick:
		}
	}
}

func (w *firewalls) look(ctx context.Context) error {
	w.looking.Lock()
	defer w.looking.Unlock()
	if w.down {
		return nil
	}
	list, facts := w.carried()
	found, err := w.guard.Keep(ctx, list, firewallHost(facts), w.auto.Load())
	if err != nil && found == nil {
		return err
	}
	w.found.Store(&found)
	return err
}

// clear takes away what is in other firewalls, for good.
func (w *firewalls) clear() error {
	w.looking.Lock()
	defer w.looking.Unlock()
	w.down = true
	return clearFirewalls(w.guard)
}

// firewallHost is what the firewall room has to know of facts.
func firewallHost(facts kernel.Facts) firewall.Host {
	h := firewall.Host{Default4: facts.Default4, Default6: facts.Default6}
	for _, a := range facts.Addrs {
		h.Addrs = append(h.Addrs, firewall.Addr{Prefix: a.Prefix, Interface: a.Interface})
	}
	return h
}

// clearTime bounds how long taking rules out of other firewalls may take.
const clearTime = 10 * time.Second

// clearFirewalls takes away what is in other firewalls, whoever put it there.
func clearFirewalls(guard *firewall.Guard) error {
	ctx, cancel := context.WithTimeout(context.Background(), clearTime)
	defer cancel()
	err := guard.Clear(ctx)
	if errors.Is(err, firewall.ErrNotAllowed) { // who may not look has put nothing there
		return nil
	}
	return err
}
