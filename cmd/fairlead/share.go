package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/fairlead-net/fairlead/config"
	"github.com/fairlead-net/fairlead/forward"
	"github.com/fairlead-net/fairlead/kernel"
	"github.com/fairlead-net/fairlead/node"
	"github.com/fairlead-net/fairlead/store"
)

// shareFlags are how ports are shared.
type shareFlags struct {
	listen string
	hosts  []string
	tls    string
	udp    bool
	json   bool
}

func newShare(g *globals) *cobra.Command {
	var way wayFlags
	var how shareFlags
	cmd := &cobra.Command{
		Use:   "share PORT|HOST:PORT... [--listen PORT] [--host NAME] [--udp]",
		Short: "Show ports of this machine at the hub, now, until Ctrl-C",
		Long: `Have the hub that "fairlead join" has joined listen, and lead what arrives there to a port of this machine, or of another one that is reached
from here, until Ctrl-C. It prints where that is. When the line breaks, or the address of this machine changes, connections go on.

Without --listen the hub picks a port for each. With --host a web site is shared by its name, at the hub's own port: the hub has to
permit the name ("fairlead agents token --hosts"), the name has to lead to the hub's address, and TLS ends at the hub with a certificate that
it gets by itself; --tls pass leaves that to the target. "fairlead up" with [agent] in its file does the same as a service.

It says where it stands: connecting, refused and why, waiting for the hub, ready and where, and reconnecting; with --json in one line each.`,
		Example: `  fairlead share 8080
  fairlead share 8080 22 192.168.1.20:80
  fairlead share 8080 --listen 8000
  fairlead share 3000 --host blog.example.com
  fairlead share 51820 --udp --listen 51820`,
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, args []string) error {
			want, err := way.agent(&secretLines{from: cmd.InOrStdin()})
			if err != nil {
				return err
			}
			state, err := g.stateDir()
			if err != nil {
				return err
			}
			list, err := how.forwards(args, ownPort(state))
			if err != nil {
				return err
			}
			if err := mayBeAgent(state, list[0]); err != nil {
				return err
			}
			screen := newScreen(cmd.OutOrStdout(), cmd.ErrOrStderr())
			screen.live = screen.live && !how.json
			log, err := g.logger(screen, slog.LevelError)
			if err != nil {
				return err
			}
			ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGHUP) // as of `forward`
			defer stop()
			return runShare(ctx, list, want, state, &shareVoice{screen: screen, json: how.json}, log)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&how.listen, "listen", "", "[ADDRESS:]PORT of the hub, for one port that is shared (default one that the hub picks)")
	flags.StringSliceVar(&how.hosts, "host", nil, "share a web site by name, such as blog.example.com, at the hub's own port or that of --listen")
	flags.StringVar(&how.tls, "tls", "", "with --host: acme to end TLS at the hub, pass for a target with a certificate (default acme at port 443, where an authority can call)")
	flags.BoolVar(&how.udp, "udp", false, "share ports of UDP")
	flags.BoolVar(&how.json, "json", false, "print what happens as JSON, one line each")
	fixed(cmd, "tls", "acme", "pass")
	way.register(cmd)
	return cmd
}

// ownPort is the port of the hub that was joined, which forwards with names share.
func ownPort(state string) string {
	if m, _, err := readMembership(state); err == nil {
		if _, port, err := net.SplitHostPort(m.Hub); err == nil {
			return port
		}
	}
	return strconv.Itoa(config.DefaultHubPort)
}

// forwards are those that were typed. A port at the hub is 0 for one that the hub picks; own is the hub's own port.
func (s *shareFlags) forwards(targets []string, own string) ([]*forward.Forward, error) {
	const hint = "write it like this: fairlead share 8080, or fairlead share 192.168.1.20:80 --listen 8000"
	for _, one := range []struct {
		flag  string
		typed bool
	}{{"--listen", s.listen != ""}, {"--host", len(s.hosts) > 0}} {
		if one.typed && len(targets) > 1 {
			return nil, usagef("share one port with it, or several without", "%s is for one port, and here are %d", one.flag, len(targets))
		}
	}
	if len(s.hosts) == 0 && s.tls != "" {
		return nil, usagef("write --host, too, or leave --tls out", "--tls is for a site that is shared by its name")
	}
	var list []*forward.Forward
	for i, what := range targets {
		f, err := s.forward(what, own, hint)
		if err != nil {
			return nil, err
		}
		if f.Name = "share"; i > 0 {
			f.Name += "-" + strconv.Itoa(i+1)
		}
		if at := slices.IndexFunc(list, func(other *forward.Forward) bool { return other.To[0] == f.To[0] }); at >= 0 {
			return nil, usagef("leave one of them out", "%s stands here twice", f.To[0])
		}
		list = append(list, f)
	}
	return list, nil
}

func (s *shareFlags) forward(what, own, hint string) (*forward.Forward, error) {
	if _, err := strconv.ParseUint(what, 10, 64); err == nil {
		what = "127.0.0.1:" + what
	}
	spec := config.Spec{Listen: s.listen, To: config.Strings{what}, At: config.HubNode, Host: s.hosts, TLS: s.tls}
	picked := s.listen == "" && len(s.hosts) == 0
	switch {
	case picked:
		spec.Listen = "1"
	case s.listen == "":
		spec.Listen = own
	}
	if len(s.hosts) > 0 && s.tls == "" && (spec.Listen == "443" || strings.HasSuffix(spec.Listen, ":443")) { // an authority calls there
		spec.TLS = forward.TLSACME.String()
	}
	spec.RedirectHTTPS = spec.TLS == forward.TLSACME.String()
	network := "tcp/"
	if s.udp {
		network = "udp/"
	}
	spec.Listen = network + spec.Listen
	f, err := spec.Forward("share", forward.OriginCLI)
	if err != nil {
		return nil, &usageError{err: err, hint: shareHint(err, hint)}
	}
	ports := f.To[0].Ports
	switch {
	case f.Dynamic() != forward.HeadNone || f.To[0].IsUnix() || ports.IsZero() || ports.First != ports.Last:
		return nil, usagef(hint, "%q is no port of a host", what)
	case f.Listen.Ports.Count() != 1:
		return nil, usagef(hint, "--listen: %q is not one port", s.listen)
	}
	if picked {
		f.Listen.Ports = forward.Ports{Ranges: []forward.Range{{}}}
	}
	return f, nil
}

// shareHint says what would have been right: about names, what says so for all forwards.
func shareHint(err error, usual string) string {
	var field *forward.FieldError
	if errors.As(err, &field) && (field.Field == "host" || field.Field == "tls") {
		return hintFor(err)
	}
	return usual
}

// mayBeAgent says why this process cannot be this host's agent.
func mayBeAgent(state string, f *forward.Forward) error {
	if _, _, err := readMembership(state); err != nil {
		return err
	}
	release, err := holdAgent(state)
	if errors.Is(err, errAgentRuns) {
		return advise(err, fmt.Sprintf("`fairlead share` takes several ports at once; and if that is the daemon, it can share this, too: `fairlead add NAME LISTEN %s --at hub`", f.To[0]))
	}
	if err != nil {
		return err
	}
	return errors.Join(shareState(state), release())
}

// runShare shares list until ctx ends.
func runShare(ctx context.Context, list []*forward.Forward, want *config.Agent, state string, voice *shareVoice, log *slog.Logger) error {
	if err := dropPrivileges(log, target{}); err != nil {
		return err
	}
	e := newEngine(engineOptions{nftables: kernel.ForegroundTable(), store: store.Memory(), state: state, log: log})
	s := newSharing(e, list, voice)
	e.settings.agent.listens = s.listens
	settings := config.Settings{Agent: want, Nodes: []node.Spec{{Name: config.HubNode, Hub: new(node.Hub)}}}
	e.settings.settle(settings)
	running, end := context.WithCancel(context.WithoutCancel(ctx)) // the engine outlives ctx: it has to tell the hub
	defer end()
	tasks, running := errgroup.WithContext(running)
	tasks.Go(func() error { return e.run(running) })
	tasks.Go(func() error {
		defer end()
		ctx, stop := context.WithCancel(ctx)
		defer stop()
		defer context.AfterFunc(running, stop)()
		err := s.watch(ctx)
		voice.screen.clear()
		return errors.Join(err, e.table.Down(context.WithoutCancel(ctx)))
	})
	return tasks.Wait()
}
