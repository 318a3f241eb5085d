package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/fairlead-net/fairlead/api"
	"github.com/fairlead-net/fairlead/config"
	"github.com/fairlead-net/fairlead/forward"
	"github.com/fairlead-net/fairlead/wake"
)

type wakeFlags struct {
	*globals
	password, address, iface, file string
	wait                           time.Duration
	asJSON                         bool
}

func newWake(g *globals) *cobra.Command {
	w := &wakeFlags{globals: g}
	cmd := &cobra.Command{
		Use:   "wake MAC|NAME [flags]",
		Short: "Wake a host by Wake-on-LAN",
		Long: `Send magic packets to a network card, so that its host wakes up: by broadcast on every network that this host is in, and to
the address of the host where it is known. It takes no daemon and no root, though root reaches a few cards more.

MAC is a hardware address, as aa:bb:cc:dd:ee:ff. NAME is a forward with a "wake" of its own: the running daemon sends then,
as it does when a client comes; with -c it is a forward of a file, and no daemon is asked.

Nobody answers a magic packet. With --wait it is sent again every two seconds until the host takes or refuses a TCP
connection; when it does neither in time the exit code is 1.`,
		Example: `  fairlead wake 52:54:00:12:34:ab
  fairlead wake 52:54:00:12:34:ab --address 192.168.1.10:22 --wait 2m
  fairlead wake 52:54:00:12:34:ab --address 192.168.7.255 --password 01:02:03:04:05:06
  fairlead wake nas
  fairlead wake nas -c fairlead.toml --wait 90s`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: completeForwards(g, true),
		RunE: func(cmd *cobra.Command, args []string) error {
			if w.wait < 0 {
				return usagef("write it like 90s", "--wait: %v is no time to wait", w.wait)
			}
			c, err := w.call(args[0])
			if err != nil {
				return err
			}
			return w.run(cmd, c)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&w.password, "password", "", "SecureOn password of the card: 01:02:03:04:05:06 or 192.0.2.1")
	flags.StringVar(&w.address, "address", "", "where the host was last seen, or a broadcast address of its network; with a port for --wait")
	flags.StringVar(&w.iface, "interface", "", "the only interface to send by (default those near --address, else all)")
	flags.DurationVar(&w.wait, "wait", 0, "send until the host answers, for this long at most, such as 90s")
	flags.BoolVar(&w.asJSON, "json", false, "print JSON")
	registerFile(cmd, &w.file, "take NAME from this file instead of the running daemon")
	return cmd
}

// A wakeCall is what one command line asks for.
type wakeCall struct {
	send func(context.Context) ([]api.Woken, error) // one round
	at   func(context.Context) (string, error)      // host and port that answer when the host is awake
}

// call finds out what who means. What reads as a hardware address is one, whatever forwards are called.
func (w *wakeFlags) call(who string) (wakeCall, error) {
	mac, err := forward.ParseMAC(who)
	switch {
	case err == nil:
		return w.callCard(mac)
	case forward.CheckName(who) != nil: // a colon, say
		return wakeCall{}, usagef("write it like 52:54:00:12:34:ab, or give the name of a forward", "%w", err)
	case w.password != "" || w.address != "" || w.iface != "":
		return wakeCall{}, usagef("leave them out, or give the MAC address", "--password, --address and --interface go with a MAC address; forward %q says these itself", who)
	case w.file != "":
		return w.callFile(who)
	}
	return w.callDaemon(who)
}

func (w *wakeFlags) callCard(mac forward.MAC) (c wakeCall, err error) {
	if w.file != "" {
		return c, usagef("leave -c out, or give the name of a forward", "a file has forwards, and %s is no name of one", mac)
	}
	target := wake.Target{MAC: mac, Interface: w.iface}
	if target.Password, err = forward.ParseWakePassword(w.password); err != nil {
		return c, usagef("", "--password: %w", err)
	}
	var to forward.Target
	if w.address != "" {
		if to, err = forward.ParseTarget(w.address); err == nil && to.Host == "" && !to.Addr.IsValid() {
			err = fmt.Errorf("%q is not the address of another host", w.address)
		}
		if err != nil {
			return c, usagef("write it like 192.168.1.10 or 192.168.1.10:22", "--address: %w", err)
		}
	}
	if w.wait > 0 && (to.Ports.IsZero() || to.Ports.First != to.Ports.Last) {
		return c, usagef("say where the host answers: --address 192.168.1.10:22", "--wait needs an address and a port to look at")
	}
	c.at = func(context.Context) (string, error) { return to.String(), nil }
	c.send = func(ctx context.Context) ([]api.Woken, error) {
		// Each time anew: a name may be found only when its server is awake.
		target.Addrs = wake.Addresses(ctx, to, lookup)
		return sendAll(ctx, []wake.Target{target})
	}
	return c, nil
}

func (w *wakeFlags) callFile(name string) (c wakeCall, err error) {
	cfg, err := config.Load(w.file)
	if err != nil {
		return c, err
	}
	i := slices.IndexFunc(cfg.Forwards, func(f *forward.Forward) bool { return f.Name == name })
	if i < 0 {
		return c, fmt.Errorf("%s: no forward is called %q", w.file, name)
	}
	f := cfg.Forwards[i]
	if len(f.Wake.MACs) == 0 {
		return c, api.NothingToWake(name)
	}
	c.at = func(context.Context) (string, error) { return answersAt(f.Listen, f.To[0]) }
	c.send = func(ctx context.Context) ([]api.Woken, error) { return wakeForward(ctx, f) }
	return c, nil
}

func (w *wakeFlags) callDaemon(name string) (c wakeCall, err error) {
	daemon, err := w.client()
	if err != nil {
		return c, err
	}
	c.send = func(ctx context.Context) ([]api.Woken, error) {
		woken, err := daemon.Wake(ctx, name)
		if away := new(api.UnreachableError); errors.As(err, &away) && away.NotRunning() {
			return nil, advise(err, "a forward is woken by the daemon; without one give its file, -c FILE, or the MAC address")
		}
		return woken, err
	}
	c.at = func(ctx context.Context) (string, error) {
		list, err := daemon.Status(ctx, name)
		if err != nil || len(list) == 0 || len(list[0].To) == 0 {
			return "", err
		}
		listen, err := forward.ParseListen(list[0].Listen)
		if err != nil {
			return "", err
		}
		to, err := forward.ParseTarget(list[0].To[0])
		if err != nil {
			return "", err
		}
		return answersAt(listen, to)
	}
	return c, nil
}

// answersAt is where a forward's first port leads, for TCP.
func answersAt(listen forward.Listen, to forward.Target) (string, error) {
	const hint = "leave --wait out, or wake the MAC address with --address and a port that answers"
	if listen.Networks&forward.TCP == 0 && !listen.IsUnix() {
		return "", usagef(hint, "--wait looks by TCP, and the forward is for %s", listen.Networks)
	}
	if to.Ports.IsZero() && (listen.Ports.All || len(listen.Ports.Ranges) == 0) {
		return "", usagef(hint, "--wait needs one port to look at, and the forward leads to all ports of %s", to)
	}
	port := to.Ports.First
	if port == 0 {
		port = listen.Ports.Ranges[0].First
	}
	to.Ports = forward.Range{First: port, Last: port}
	return to.String(), nil
}

// wakeAnswer is what `fairlead wake --json` prints.
type wakeAnswer struct {
	Woken []api.Woken `json:"woken"`
	Awake *bool       `json:"awake,omitempty"` // whether it answered in time; with --wait only
}

// run sends, waits when asked to, and prints.
func (w *wakeFlags) run(cmd *cobra.Command, c wakeCall) error {
	ctx, out := cmd.Context(), cmd.OutOrStdout()
	at := ""
	if w.wait > 0 {
		var err error
		if at, err = c.at(ctx); err != nil {
			return err
		}
	}
	began := time.Now()
	woken, err := c.send(ctx)
	if err != nil {
		return err
	}
	answer := wakeAnswer{Woken: woken}
	if !w.asJSON {
		printWoken(out, cmd.ErrOrStderr(), woken)
	}
	if at != "" {
		awake, err := w.await(ctx, c, at)
		if err != nil {
			return err
		}
		answer.Awake = &awake
	}
	if w.asJSON {
		if err := printJSON(out, answer); err != nil {
			return err
		}
	}
	switch {
	case at == "":
	case !*answer.Awake:
		return advise(fmt.Errorf("%s did not answer within %v", at, w.wait), "the host must be set up to wake by magic packet, in its firmware and its system")
	case !w.asJSON:
		fmt.Fprintf(out, "%s answers after %v\n", at, time.Since(began).Round(100*time.Millisecond))
	}
	return nil
}

// wakeEvery is the time between two rounds: a card that is falling asleep misses what comes too early.
const wakeEvery = 2 * time.Second

// await sends round after round until the host answers or its time is over.
func (w *wakeFlags) await(ctx context.Context, c wakeCall, at string) (awake bool, err error) {
	limited, cancel := context.WithTimeout(ctx, w.wait)
	defer cancel()
	for {
		if answersWithin(limited, at, wakeEvery) {
			return true, nil
		}
		if limited.Err() != nil {
			return false, ctx.Err()
		}
		if _, err := c.send(limited); err != nil && limited.Err() == nil {
			return false, err
		}
	}
}

// answersWithin reports whether a host takes or refuses a connection: either way it is awake. When it does not it returns
// after that time and no earlier.
func answersWithin(ctx context.Context, at string, d time.Duration) bool {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", at)
	if err == nil {
		conn.Close()
	}
	if err == nil || errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, syscall.Errno(10061)) { // Windows: WSAECONNREFUSED
		return true
	}
	<-ctx.Done()
	return false
}
