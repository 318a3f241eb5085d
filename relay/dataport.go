package relay

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/fairlead-net/fairlead/node"
)

// dataPorts are the ports at which data connections are waited for. Sessions share them: with passive_ports those of many
// clients wait at the same ones, and are told apart by who calls.
type dataPorts struct {
	relay   *Relay
	doorman Doorman // nil: there is none

	mu   sync.Mutex
	open map[netip.AddrPort]*dataPort
}

// A dataPort is open as long as somebody waits there.
type dataPort struct {
	ln      net.Listener
	waiting []*waiter // the newest last
}

// A Doorman is a firewall that this program has on this host. It drops what comes in for ports that nobody knows beforehand,
// unless it is told of them.
type Doorman interface {
	// Admit lets one client connect by TCP to an address and port, for a forward, until Dismiss or for as long as said.
	Admit(forward string, client netip.Addr, at netip.AddrPort, lasts time.Duration) error
	// Dismiss lets nobody in any more. Connections that there are go on.
	Dismiss(client netip.Addr, at netip.AddrPort) error
}

// A waiter waits for connections from one address.
type waiter struct {
	from netip.Addr
	once bool                        // for one connection; else for all that come
	take func(at uint16, c net.Conn) // called for each, with the port that was called
	room func() bool                 // whether take would have it; nil: it would
	met  func()                      // called, perhaps again, when what came has another end, or will have none; nil: nobody wants to know

	known  bool           // at one of passive_ports, which are open anyway
	let    bool           // the doorman lets from in, and has to be told when w waits no longer; guarded by the ports
	at     netip.AddrPort // where it waits; set when it is added
	giveUp *time.Timer    // guarded by the owner
}

func (w *waiter) isMet() {
	if w.met != nil {
		w.met()
	}
}

// errTaken is the answer for a port where the same client is waited for already.
var errTaken = errors.New("the client is waited for there already")

// add has w wait at an address and port, 0 for any. The port is opened if it is not open yet.
func (d *dataPorts) add(ctx context.Context, n node.Node, at netip.AddrPort, w *waiter) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	p := d.open[at]
	if p == nil {
		if d.relay.crowded() {
			return errCrowded
		}
		ln, err := n.Listen(ctx, "tcp", at.String())
		if err != nil {
			return err
		}
		if at.Port() == 0 {
			at = netip.AddrPortFrom(at.Addr(), addrPort(ln.Addr()).Port())
		}
		p = &dataPort{ln: ln}
		if d.open == nil {
			d.open = map[netip.AddrPort]*dataPort{}
		}
		d.open[at] = p
		d.relay.held.Add(1)
		d.relay.wg.Go(func() { d.accept(at, p) })
	}
	if w.once && slices.ContainsFunc(p.waiting, func(other *waiter) bool { return other.from == w.from }) {
		return errTaken
	}
	w.at = at
	p.waiting = append(p.waiting, w)
	return nil
}

// admit has the doorman let in whom w waits for. It is called before anybody is told of the port. Where that fails the client is
// told of it all the same: from where it calls, nothing may be in its way.
func (d *dataPorts) admit(name string, w *waiter) {
	if d.doorman == nil || w.known {
		return
	}
	const more = 5 * time.Second // for what goes back and forth when the wait is nearly over
	if err := d.doorman.Admit(name, w.from, w.at, dataWait+more); err != nil {
		d.relay.log.Warn("a data connection of FTP may not get in here", keyForward, name, keyClient, w.from, keyError, err)
		return
	}
	d.mu.Lock()
	p := d.open[w.at]
	waits := p != nil && slices.Contains(p.waiting, w)
	w.let = waits
	d.mu.Unlock()
	if !waits { // somebody was quicker, from inside
		d.dismiss(w)
	}
}

// dismiss takes back what admit did for w.
func (d *dataPorts) dismiss(w *waiter) {
	if err := d.doorman.Dismiss(w.from, w.at); err != nil {
		d.relay.log.Debug("a data connection's way in is left open for a while", keyClient, w.from, keyError, err)
	}
}

// remove has w wait no longer.
func (d *dataPorts) remove(at netip.AddrPort, w *waiter) {
	d.mu.Lock()
	if p := d.open[at]; p != nil {
		d.removeFrom(at, p, w)
	}
	let := w.let
	w.let = false
	d.mu.Unlock()
	if let {
		d.dismiss(w)
	}
}

func (d *dataPorts) removeFrom(at netip.AddrPort, p *dataPort, w *waiter) {
	p.waiting = slices.DeleteFunc(p.waiting, func(other *waiter) bool { return other == w })
	if len(p.waiting) == 0 {
		delete(d.open, at)
		_ = p.ln.Close()
	}
}

// accept hands connections to those who wait for them, until the port is closed.
func (d *dataPorts) accept(at netip.AddrPort, p *dataPort) {
	defer d.relay.held.Add(-1)
	for {
		conn, err := p.ln.Accept()
		if err == nil {
			if w := d.waiterFor(at, p, addrPort(conn.RemoteAddr()).Addr()); w != nil {
				w.take(at.Port(), conn)
			} else {
				reset(conn)
			}
			continue
		}
		if d.closed(at, p) || errors.Is(err, net.ErrClosed) {
			return
		}
		time.Sleep(minPause) // out of descriptors, or the trouble of one caller; waiters do not wait for ever
	}
}

func (d *dataPorts) closed(at netip.AddrPort, p *dataPort) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.open[at] != p
}

// waiterFor is who waits for a caller: one who expects one connection before those who take all, and the newest of them.
func (d *dataPorts) waiterFor(at netip.AddrPort, p *dataPort, caller netip.Addr) *waiter {
	d.mu.Lock()
	defer d.mu.Unlock()
	var found *waiter
	for _, w := range slices.Backward(p.waiting) {
		if w.from != caller || w.room != nil && !w.room() {
			continue
		}
		if w.once {
			d.removeFrom(at, p, w)
			return w
		}
		if found == nil {
			found = w
		}
	}
	return found
}
