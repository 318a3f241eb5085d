package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/fairlead-net/fairlead/api"
	"github.com/fairlead-net/fairlead/forward"
	"github.com/fairlead-net/fairlead/wake"
)

// wakeForward sends one round to every card of a forward.
func wakeForward(ctx context.Context, f *forward.Forward) ([]api.Woken, error) {
	return sendAll(ctx, wake.Targets(ctx, f, lookup))
}

// lookupTime is how long a name may take. A packet without the address is better than one too late.
const lookupTime = 2 * time.Second

func lookup(ctx context.Context, network, host string) ([]netip.Addr, error) {
	ctx, cancel := context.WithTimeout(ctx, lookupTime)
	defer cancel()
	return net.DefaultResolver.LookupNetIP(ctx, network, host)
}

// sendAll sends one round to each target. It fails when one of them could be sent nothing.
func sendAll(ctx context.Context, targets []wake.Target) ([]api.Woken, error) {
	list := []api.Woken{}
	var errs []error
	for _, t := range targets {
		copies, err := wake.Send(ctx, t)
		if err != nil {
			errs = append(errs, err)
		}
		one := api.Woken{MAC: t.MAC.String(), Addresses: []string{}, Packets: []api.MagicPacket{}}
		for _, addr := range t.Addrs {
			one.Addresses = append(one.Addresses, addr.String())
		}
		for _, c := range copies {
			p := api.MagicPacket{Interface: c.Interface, To: c.To}
			if c.Err != nil {
				p.Error = c.Err.Error()
			}
			one.Packets = append(one.Packets, p)
		}
		list = append(list, one)
	}
	return list, errors.Join(errs...)
}

// printWoken prints a line for each card, and a note for each packet that could not be sent.
func printWoken(out, notes io.Writer, woken []api.Woken) {
	for _, one := range woken {
		sent, ways := 0, []string{}
		for _, p := range one.Packets {
			by := p.Interface
			if by == "" {
				by = "route to " + hostOf(p.To)
			}
			if p.Error != "" {
				fmt.Fprintf(notes, "note: not sent by %s to %s: %s\n", by, p.To, plain(p.Error))
				continue
			}
			sent++
			if !slices.Contains(ways, by) {
				ways = append(ways, by)
			}
		}
		fmt.Fprintf(out, "%s: %d magic packets sent, by %s\n", one.MAC, sent, strings.Join(ways, ", "))
	}
}

func hostOf(addr string) string {
	if host, _, err := net.SplitHostPort(addr); err == nil {
		return host
	}
	return addr
}
