package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os/signal"
	"strconv"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/fairlead-net/fairlead/api"
	"github.com/fairlead-net/fairlead/config"
)

func newHub(g *globals) *cobra.Command {
	u := &upFlags{globals: g}
	var listen, address string
	cmd := &cobra.Command{
		Use:   "hub [--listen [ADDRESS:]PORT]",
		Short: "Be the hub that machines behind NAT are reached through, now, until Ctrl-C",
		Long: `Run a hub without a file: machines that nobody can call become its agents, and their ports are reached here. It prints the command
that enrols one, "fairlead join HOST:PORT TOKEN", which works once; "fairlead agents token" prints another. Agents are known again
after a restart, and to "fairlead up" with [hub] in its file, which is the same as a service.

One port is enough, of TCP and UDP: 443 if nothing is said, and one above 1023 needs no root. What agents listen at has to be let in by
firewalls, too; they may have ports from 1024 on.`,
		Example: `  sudo fairlead hub
  fairlead hub --listen 8443 --address hub.example.com:8443
  fairlead agents`,
		Args:              cobra.NoArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			hub, err := config.NewHub(listen, address)
			if err != nil {
				return &usageError{err: err, hint: config.HintHub(err)}
			}
			screen := newScreen(cmd.OutOrStdout(), cmd.ErrOrStderr())
			log, err := g.logger(screen, slog.LevelError)
			if err != nil {
				return err
			}
			ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGHUP) // as of `forward`
			defer stop()
			u.given = &config.Config{Settings: config.Settings{Hub: hub}}
			u.beside = func(ctx context.Context, d *daemon) error {
				defer screen.clear()
				return watchHub(ctx, d, screen)
			}
			return u.live(ctx, log)
		},
	}
	cmd.Flags().StringVar(&listen, "listen", "", "the port of the hub, of TCP and UDP, with an address before it or not (default 443)")
	cmd.Flags().StringVar(&address, "address", "", "HOST[:PORT] that agents call (default this host's address)")
	return cmd
}

// watchHub prints the command that enrols an agent, and then who comes and goes, until ctx ends.
func watchHub(ctx context.Context, d *daemon, screen *screen) error {
	select {
	case <-d.table.Ready():
	case <-ctx.Done():
		return nil
	}
	d.settings.opened(ctx)
	if ctx.Err() != nil {
		return nil
	}
	if problem := d.settings.hub.problem(); problem != "" {
		return advise(errors.New(problem), "another port may do, such as --listen 8443: one below 1024 needs root or CAP_NET_BIND_SERVICE, and `ss -tulpn` shows who listens where")
	}
	token, err := d.settings.hub.Token(ctx, api.TokenRequest{})
	if err != nil {
		return err
	}
	screen.print(fmt.Sprintf("the hub listens at %s; agents call %s", d.settings.hub.listens(), token.Hub))
	screen.print("to make another machine an agent, run there, once:\n\n  " + joinLine(token) + "\n")
	if host, _, err := net.SplitHostPort(token.Hub); err == nil && isPrivate(host) {
		screen.print("note: " + host + " is no public address; --address says by which one agents reach this host")
	}
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	before := map[string]api.Agent{}
	last := time.Now()
	for {
		list, err := d.settings.hub.Agents()
		if err != nil {
			return err
		}
		now := time.Now()
		for _, line := range agentNews(before, list) {
			screen.print(line)
		}
		screen.update(hubLine(before, list, now.Sub(last)))
		clear(before)
		for _, a := range list {
			before[a.Name] = a
		}
		last = now
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// agentNews says which agents are others than before: "home is up: quic from 198.51.100.7:40312".
func agentNews(before map[string]api.Agent, list []api.Agent) (lines []string) {
	there := map[string]bool{}
	for _, a := range list {
		there[a.Name] = true
		old, known := before[a.Name]
		switch {
		case known && old.State == a.State && old.Transport == a.Transport && old.Address == a.Address:
		case a.State == "up":
			lines = append(lines, fmt.Sprintf("%s is up: %s from %s", plain(a.Name), a.Transport, a.Address))
		case known:
			line := plain(a.Name) + " is " + a.State
			if a.Detail != "" {
				line += ": " + plain(a.Detail)
			}
			lines = append(lines, line)
		}
		for _, f := range a.Forwards {
			if !hasListen(old.Forwards, f) {
				lines = append(lines, fmt.Sprintf("%s listens at %s", plain(a.Name), f.Listen))
			}
		}
	}
	for name := range before {
		if !there[name] {
			lines = append(lines, plain(name)+" is no agent any more")
		}
	}
	return lines
}

func hasListen(list []api.AgentListen, f api.AgentListen) bool {
	for _, other := range list {
		if other.Listen == f.Listen {
			return true
		}
	}
	return false
}

// hubLine says what passes now.
func hubLine(before map[string]api.Agent, list []api.Agent, d time.Duration) string {
	up, sessions := 0, 0
	var in, out uint64
	for _, a := range list {
		if a.State == "up" {
			up++
		}
		sessions += a.Sessions
		if old := before[a.Name]; old.Bytes.In <= a.Bytes.In && old.Bytes.Out <= a.Bytes.Out {
			in, out = in+a.Bytes.In-old.Bytes.In, out+a.Bytes.Out-old.Bytes.Out
		}
	}
	return fmt.Sprintf("%d of %d agents up, %d open, in %s, out %s", up, len(list), sessions, rate(in, d), rate(out, d))
}

func rate(n uint64, d time.Duration) string {
	if d <= 0 {
		return "0 B/s"
	}
	return humanBytes(uint64(float64(n)/d.Seconds())) + "/s"
}

// hubAddress is what agents call a hub by that does not say so: its own address, else the one by which this host reaches the internet, else one that
// it has.
func hubAddress(h *config.Hub) string {
	port := strconv.Itoa(int(portRange(h.Listen).First))
	if h.Address != "" {
		if _, err := netip.ParseAddr(h.Address); err == nil {
			return net.JoinHostPort(h.Address, port)
		}
		if _, _, err := net.SplitHostPort(h.Address); err == nil {
			return h.Address
		}
		return net.JoinHostPort(h.Address, port)
	}
	addr := h.Listen.Addr
	if !addr.IsValid() || addr.IsUnspecified() {
		addr = bestAddress(net.InterfaceAddrs)
		// Addresses for documentation (RFC 5737, RFC 3849): nothing is sent, the kernel only says which address it would take.
		for _, far := range []string{"192.0.2.1:9", "[2001:db8::1]:9"} {
			conn, err := net.Dial("udp", far)
			if err != nil {
				continue
			}
			addr = conn.LocalAddr().(*net.UDPAddr).AddrPort().Addr().Unmap()
			_ = conn.Close()
			break
		}
	}
	return net.JoinHostPort(addr.String(), port)
}

// bestAddress is an address of this host by which others may reach it: a public one before others, IPv4 before IPv6, and loopback where there is none.
func bestAddress(list func() ([]net.Addr, error)) netip.Addr {
	best, merit := netip.AddrFrom4([4]byte{127, 0, 0, 1}), 0
	all, _ := list() // none, then
	for _, a := range all {
		prefix, err := netip.ParsePrefix(a.String())
		if err != nil {
			continue
		}
		addr, worth := prefix.Addr().Unmap(), 1
		if !addr.IsGlobalUnicast() {
			continue
		}
		if !isPrivate(addr.String()) {
			worth += 2
		}
		if addr.Is4() {
			worth++
		}
		if worth > merit {
			best, merit = addr, worth
		}
	}
	return best
}

// isPrivate reports whether a host is an address that others may not reach.
func isPrivate(host string) bool {
	addr, err := netip.ParseAddr(host)
	shared := netip.MustParsePrefix("100.64.0.0/10") // RFC 6598
	return err == nil && (addr.IsPrivate() || addr.IsLoopback() || addr.IsLinkLocalUnicast() || shared.Contains(addr))
}
