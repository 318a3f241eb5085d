package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/crypto/ssh"

	"github.com/fairlead-net/fairlead/node"
	"github.com/fairlead-net/fairlead/node/sshnode"
	"github.com/fairlead-net/fairlead/node/sshnode/sshconfig"
)

// exitSSH is the exit code of ssh(1) for everything that is not the command's own.
const exitSSH = 255

const sshUsage = "write it like `fairlead ssh -L 8080:localhost:80 user@host`; `fairlead ssh --help` lists the options"

func newSSH(*globals) *cobra.Command {
	return &cobra.Command{
		Use:   "ssh [OPTION...] [USER@]HOST [COMMAND...]",
		Short: "Log in to an SSH server, and forward ports over it, as ssh(1) does",
		Long: `Log in to an SSH server with OpenSSH's syntax: a shell, a command, or forwardings alone (-N). ~/.ssh/config and
/etc/ssh/ssh_config are honoured, known_hosts is believed, and keys come from the agent and from files. Unlike ssh(1), with
-N a connection that breaks is made again, and what it carried comes back.

  -L [ADDRESS:]PORT:HOST:PORT    what calls the port here is connected to HOST:PORT from the server; /PATH on either
                                 side is a unix socket
  -R [ADDRESS:]PORT:HOST:PORT    what calls the port of the server is connected to HOST:PORT from here; port 0 has the
                                 server pick one, which is printed
  -R [ADDRESS:]PORT              a SOCKS proxy at the server, which connects from here
  -D [ADDRESS:]PORT              a SOCKS proxy here, which connects from the server
  -W HOST:PORT                   standard input and output are connected to HOST:PORT from the server
  -J HOST[,HOST...]              by way of other servers
  -N                             forward only, without a command
  -p PORT, -l USER, -i FILE      where and as whom to log in, and with which key
  -F FILE, -o KEYWORD=VALUE      another configuration file, and keywords of ssh_config(5)
  -4, -6, -b ADDRESS, -B IFACE   how the server is reached
  -t, -tt, -T                    with a terminal, by all means, or without one
  -A, -a                         the agent may be used by the server, or not
  -g                             ports of -L and -D listen on every address
  -n, -s                         without standard input; the command is a subsystem
  -c, -m LIST                    ciphers and message authentication codes
  -e CHARACTER                   escape character, ~ unless said; ~. at the start of a line ends a session with a terminal
  -q, -v, -E FILE                say less, say more, say it to a file
  -G, -Q QUERY, -V               print the configuration for HOST, algorithms (cipher, mac, kex, key, sig), or the version

An address that is empty or * is every address; without one it is loopback. IPv6 addresses stand in brackets. The exit code
is the command's, or 255 when the connection failed.`,
		Example: `  fairlead ssh user@bastion.example.com
  fairlead ssh -N -L 8080:intranet:80 -L 5432:/run/postgresql/.s.PGSQL.5432 bastion
  fairlead ssh -N -R 0:localhost:3000 user@server
  fairlead ssh -N -D 1080 -J jump.example.com server
  fairlead ssh -o ProxyCommand='fairlead ssh -W %h:%p bastion' inner uptime`,
		DisableFlagParsing:    true,
		DisableFlagsInUseLine: true,
		ValidArgsFunction:     cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, args []string) error {
			a, err := parseSSHArgs(args, sshconfig.Service)
			switch {
			case err != nil:
				return &exitError{exitSSH, advise(err, sshUsage)}
			case a.help:
				return cmd.Help()
			case a.version:
				fmt.Fprintf(cmd.ErrOrStderr(), "Fairlead %s\n", version())
				return nil
			case a.query != "":
				return querySSH(cmd.OutOrStdout(), a.query)
			}
			// A terminal that is closed ends it, as Ctrl-C does.
			ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGHUP)
			defer stop()
			err = runSSH(ctx, a, cmd.OutOrStdout(), cmd.ErrOrStderr())
			var exit *exitError
			if err == nil || errors.As(err, &exit) {
				return err
			}
			return &exitError{exitSSH, err}
		},
	}
}

// querySSH is -Q.
func querySSH(out io.Writer, query string) error {
	there := ssh.SupportedAlgorithms()
	lists := map[string][]string{
		"cipher": there.Ciphers, "ciphers": there.Ciphers, "mac": there.MACs, "macs": there.MACs, "kex": there.KeyExchanges,
		"kexalgorithms": there.KeyExchanges, "key": there.HostKeys, "hostkeyalgorithms": there.HostKeys, "sig": there.PublicKeyAuths,
		"key-sig": there.PublicKeyAuths, "pubkeyacceptedalgorithms": there.PublicKeyAuths, "protocol-version": {"2"},
	}
	list, ok := lists[strings.ToLower(query)]
	if !ok {
		return &exitError{exitSSH, advise(fmt.Errorf("-Q: there is nothing like %q", query), "ask for cipher, mac, kex, key or sig")}
	}
	fmt.Fprintln(out, strings.Join(list, "\n"))
	return nil
}

// An sshServer is the node that `fairlead ssh` logs in to.
type sshServer interface {
	node.Remote
	Ready(ctx context.Context) error
	Client(ctx context.Context) (*ssh.Client, error)
	Err() error
}

// runSSH does what a command line of ssh(1) says.
func runSSH(ctx context.Context, a *sshArgs, stdout, stderr io.Writer) error {
	h, _, err := sshconfig.Lookup(a.host, sshconfig.LookupOptions{User: a.user, Overrides: a.overrides, Config: a.config, Exec: matchExec(ctx)})
	if err != nil {
		return err
	}
	if a.bindTo != "" {
		addr, err := interfaceAddr(a.bindTo, h.AddressFamily)
		if err != nil {
			return fmt.Errorf("-B: %w", err)
		}
		a.overrides = append([]string{"BindAddress=" + addr}, a.overrides...)
	}
	addForwards(h, a)
	if a.print {
		fmt.Fprintln(stdout, strings.Join(h.Dump(), "\n"))
		return nil
	}
	to, done, err := voiceFor(a, stderr)
	if err != nil {
		return err
	}
	defer done()
	voice := newSSHVoice(to, h.LogLevel)
	for _, note := range a.notes {
		voice.warn("fairlead: %s", note)
	}
	command := a.command
	if h.RemoteCommand != "" && h.SessionType != "none" {
		if command != "" {
			return errors.New("there is a command on the command line, and RemoteCommand in the configuration")
		}
		command = h.RemoteCommand
	}
	server, err := openServer(a, h, voice.logger())
	if err != nil {
		return err
	}
	return withServer(ctx, server, func(ctx context.Context) error {
		c := &sshCommand{host: h, args: a, command: command, server: server, voice: voice, out: stdout, errs: stderr}
		return c.run(ctx)
	})
}

// addForwards puts the forwardings of the command line before those of the configuration. With -W there are none, unless
// the configuration wants them (ssh(1), -W).
func addForwards(h *sshconfig.Host, a *sshArgs) {
	if h.ClearAllForwardings || a.stdio != nil && !h.Said("ClearAllForwardings") {
		h.LocalForwards, h.RemoteForwards, h.DynamicForwards = nil, nil, nil
		return
	}
	var lists [3][]sshconfig.Forward
	for _, f := range a.forwards {
		lists[f.side] = append(lists[f.side], f.Forward)
	}
	h.LocalForwards = append(lists[sshconfig.Local], h.LocalForwards...)
	h.RemoteForwards = append(lists[sshconfig.Remote], h.RemoteForwards...)
	h.DynamicForwards = append(lists[sshconfig.Dynamic], h.DynamicForwards...)
}

// openServer makes the node, which is not started yet.
func openServer(a *sshArgs, h *sshconfig.Host, log *slog.Logger) (sshServer, error) {
	target := a.host
	if strings.Contains(target, ":") {
		target = "[" + target + "]"
	}
	if a.user != "" {
		target = a.user + "@" + target
	}
	spec := node.Spec{Name: sshNodeName, SSH: &node.SSH{Target: target, Config: a.config, Options: a.overrides}}
	o := sshnode.Options{Log: log, Resolve: resolveSSH(log, slog.LevelDebug), MustConnect: true, Sessions: !forwardsOnly(a, h)}
	if !h.BatchMode {
		o.Ask = askTerminal()
	}
	return sshnode.New(spec, o)
}

// forwardsOnly reports whether nothing is done over the connection but forwarding.
func forwardsOnly(a *sshArgs, h *sshconfig.Host) bool {
	return a.stdio == nil && h.SessionType == "none"
}

// withServer runs the node while f runs. An error of the connection goes before those that follow from it.
func withServer(ctx context.Context, server sshServer, f func(context.Context) error) error {
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ended := make(chan error, 1)
	go func() {
		ended <- server.Run(running)
		cancel()
	}()
	err := f(ctx)
	stop()
	if lost := <-ended; lost != nil && !errors.Is(lost, context.Canceled) {
		return lost
	}
	return err
}

// An sshCommand is what is to be done over a connection.
type sshCommand struct {
	host      *sshconfig.Host
	args      *sshArgs
	command   string
	server    sshServer
	voice     *sshVoice
	out, errs io.Writer
}

func (c *sshCommand) run(ctx context.Context) error {
	if err := c.server.Ready(ctx); err != nil {
		return err
	}
	forwarding, err := c.startForwards(ctx)
	if err != nil {
		return err
	}
	defer forwarding.stop()
	if forwardsOnly(c.args, c.host) {
		c.voice.chatty.Store(true)
		<-ctx.Done()
		return &exitError{code: exitSSH}
	}
	client, err := c.server.Client(ctx)
	if err != nil {
		return err
	}
	if c.args.stdio != nil {
		return carryStdio(ctx, client, *c.args.stdio, os.Stdin, c.out)
	}
	s := &sshSession{host: c.host, command: c.command, log: c.voice, in: os.Stdin, out: os.Stdout, errs: c.errs}
	status, err := s.run(ctx, client)
	if err != nil {
		return err
	}
	if status != 0 {
		return &exitError{code: status}
	}
	return nil
}

// failedForward says that a forwarding does not stand, and ends the program where ExitOnForwardFailure asks for that.
func (c *sshCommand) failedForward(g sshGroup, why string) error {
	err := fmt.Errorf("%s: %s", g.text, why)
	if g.remote != nil {
		port := strconv.Itoa(int(g.remote.end.Port))
		err = fmt.Errorf("remote port forwarding failed for listen port %s (%s: %s)", port, g.text, why)
		if g.remote.end.Path != "" {
			err = fmt.Errorf("remote port forwarding failed for listen path %s (%s: %s)", g.remote.end.Path, g.text, why)
		}
	}
	exit := c.host.ExitOnForwardFailure || c.args.stdio != nil && !c.host.Said("ExitOnForwardFailure")
	if exit {
		return err
	}
	c.voice.warn("Warning: %v", err)
	return nil
}

// await polls until done or for sshWait, whichever is first.
func await(ctx context.Context, done func() bool) bool {
	for end := time.Now().Add(sshWait); ; {
		if done() {
			return true
		}
		select {
		case <-ctx.Done():
			return false
		case <-time.After(10 * time.Millisecond):
		}
		if time.Now().After(end) {
			return false
		}
	}
}
