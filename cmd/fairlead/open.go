package main

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/fairlead-net/fairlead/api"
	"github.com/fairlead-net/fairlead/forward"
	"github.com/fairlead-net/fairlead/portmap"
	"github.com/fairlead-net/fairlead/portmap/publish"
)

type openFlags struct {
	*globals
	length   time.Duration // how long it stays open; 0: until Ctrl-C
	external string
	lease    time.Duration
	protocol []string
	asJSON   bool
}

func newOpen(g *globals) *cobra.Command {
	o := &openFlags{globals: g}
	cmd := &cobra.Command{
		Use:   "open [tcp/|udp/|tcp+udp/][ADDRESS:]PORTS [flags]",
		Short: "Have the gateway open a port for this host",
		Long: `Ask the gateways of the network that this host is in to lead a port to it, by PCP, else NAT-PMP, else UPnP, and keep it open
until Ctrl-C; then it is closed again. It takes no daemon and no root. Behind two gateways both are asked where both can be
reached, and for the global IPv6 addresses of this host their firewalls.

Nothing is forwarded on this host: a program listens on the port, or will. It prints where that is reached from outside, and
what is wrong where it is not. The exit code is 1 when the time of --for is over and there never was a public address.`,
		Example: `  fairlead open 8080
  fairlead open udp/51820 --for 2h
  fairlead open tcp+udp/27015-27020 --external 30000
  fairlead open 22 --external random --json`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, args []string) error {
			if cmd.Flags().Changed("for") && o.length <= 0 {
				return usagef("write it like 90m or 2h", "--for: %v is no time", o.length)
			}
			w, err := o.wish(args[0])
			if err != nil {
				return err
			}
			return o.run(cmd, w)
		},
	}
	flags := cmd.Flags()
	flags.DurationVar(&o.length, "for", 0, "close it after so long, such as 2h (default at Ctrl-C)")
	flags.StringVar(&o.external, "external", "", "the port outside, the first one of several, or random (default the same)")
	flags.DurationVar(&o.lease, "lease", publish.DefaultLifetime, "what the gateway is asked for at a time; it is renewed at half of it")
	flags.StringSliceVar(&o.protocol, "protocol", nil, "speak only these with gateways: pcp, natpmp, upnp (default all, in this order)")
	flags.BoolVar(&o.asJSON, "json", false, "print JSON, a line each time that something is new")
	fixed(cmd, "external", "random")
	fixed(cmd, "protocol", "pcp", "natpmp", "upnp")
	return cmd
}

// wish is what was typed.
func (o *openFlags) wish(listen string) (publish.Wish, error) {
	const form = "write it like 8080, udp/51820 or tcp+udp/27015-27020"
	l, err := forward.ParseListen(listen)
	switch {
	case err != nil:
		return publish.Wish{}, usagef(form, "%w", err)
	case l.IsUnix():
		return publish.Wish{}, usagef(form, "gateways lead to ports, and %s is a unix socket", listen)
	case l.Ports.All:
		return publish.Wish{}, usagef(form, "gateways are asked port by port; * is too many")
	case l.Addr.IsLoopback():
		return publish.Wish{}, usagef("leave the address out, or give the one of the network that leads to the gateway", "no gateway can lead to %s", l.Addr)
	}
	w := publish.Wish{Name: "open", Networks: l.Networks, Ports: l.Ports.Ranges, Addr: l.Addr, Lifetime: o.lease, Describe: "fairlead open " + l.Ports.String()}
	switch {
	case o.external == "random":
		w.Random = true
	case o.external != "":
		port, err := strconv.ParseUint(o.external, 10, 16)
		if err != nil || port == 0 {
			return w, usagef("write a port from 1 to 65535, or random", "--external: %q is no port", o.external)
		}
		w.External = uint16(port)
	}
	if err := w.Validate(); err != nil {
		return w, usagef("", "%w", err)
	}
	return w, nil
}

// run publishes until the user or the time ends it.
func (o *openFlags) run(cmd *cobra.Command, w publish.Wish) error {
	only, err := onlyProtocols(o.protocol)
	if err != nil {
		return err
	}
	screen := newScreen(cmd.OutOrStdout(), cmd.ErrOrStderr())
	log, err := o.logger(screen, slog.LevelError)
	if err != nil {
		return err
	}
	// A terminal that is closed ends the command as Ctrl-C does.
	ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGHUP)
	defer stop()
	over := context.Background()
	if o.length > 0 {
		var end context.CancelFunc
		over, end = context.WithTimeout(over, o.length)
		defer end()
	}
	p := publish.New(publish.Options{Secret: publishSecret(), Only: only, Log: log})
	if err := p.Apply([]publish.Wish{w}); err != nil {
		return err
	}
	ctx, end := context.WithCancel(ctx)
	defer end()
	ran := make(chan error, 1)
	go func() { ran <- p.Run(ctx) }()
	reached, said := o.watch(ctx, over, p, w.Name, screen)
	screen.clear()
	end()
	err = <-ran
	if err == nil && over.Err() != nil && !reached {
		if !said {
			return fmt.Errorf("nothing was opened: %v is over before the gateways have answered", o.length)
		}
		return errSaid
	}
	return err
}

// watch prints what is new until one of the contexts ends, and reports whether there was a public address.
// said is whether there was anything to print.
func (o *openFlags) watch(ctx, over context.Context, p *publish.Publisher, name string, screen *screen) (reached, said bool) {
	var last []string
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		changed := p.Changed()
		st, _ := p.State(name)
		reached = reached || st.Phase == publish.Open
		if lines := o.lines(st); strings.Join(lines, "\n") != strings.Join(last, "\n") {
			for _, line := range lines {
				screen.print(line)
			}
			last = lines
		}
		screen.update(openLine(st, time.Now()))
		select {
		case <-changed:
		case <-tick.C:
		case <-ctx.Done():
			return reached, last != nil
		case <-over.Done():
			return reached, last != nil
		}
	}
}

// lines says how things stand, without what changes with every renewal.
func (o *openFlags) lines(st publish.State) []string {
	if st.Phase == publish.Searching {
		return nil
	}
	if o.asJSON {
		shown := api.PublishedOf(st)
		text, err := json.Marshal(shown)
		if err != nil {
			panic(err) // there is nothing in it that JSON does not have
		}
		return []string{string(text)}
	}
	return publishedLines(api.PublishedOf(st))
}

// openLine is the live line: for how long it lasts.
func openLine(st publish.State, now time.Time) string {
	switch end := st.Expires(); {
	case st.Phase == publish.Searching:
		return "looking for gateways"
	case st.Phase == publish.Failed:
		return "closed; it is tried again"
	case end.IsZero():
		return "open; Ctrl-C closes it"
	default:
		return fmt.Sprintf("open, renewed within %v; Ctrl-C closes it", max(end.Sub(now), 0).Round(time.Second))
	}
}

// onlyProtocols reads --protocol.
func onlyProtocols(names []string) ([]portmap.Protocol, error) {
	var list []portmap.Protocol
	for _, name := range names {
		switch p := portmap.Protocol(name); p {
		case portmap.PCP, portmap.NATPMP, portmap.UPnP:
			list = append(list, p)
		default:
			return nil, usagef("write pcp, natpmp or upnp", "--protocol: %q is no protocol that gateways speak", name)
		}
	}
	return list, nil
}

// publishSecret is the same each time that this user starts the program on this machine, so that mappings of a process that was killed
// are had again. Gateways never see it.
func publishSecret() []byte {
	id, err := os.ReadFile("/etc/machine-id")
	if err != nil {
		return nil // then each process has its own
	}
	h := hmac.New(sha256.New, id)
	fmt.Fprintf(h, "fairlead publish %d", os.Geteuid())
	return h.Sum(nil)
}
