package main

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/fairlead-net/fairlead/config"
	"github.com/fairlead-net/fairlead/hub"
	"github.com/fairlead-net/fairlead/node/agent"
	"github.com/fairlead-net/fairlead/tunnel"
	"github.com/fairlead-net/fairlead/tunnel/link"
)

// joinTime is how long joining may take in all.
const joinTime = 30 * time.Second

// wayFlags are how a hub is reached where not every way leads there.
type wayFlags struct {
	proxy      string
	transports []string
}

func (w *wayFlags) register(cmd *cobra.Command) {
	cmd.Flags().StringVar(&w.proxy, "proxy", "", "the proxy to go through, such as http://proxy.example:3128 or socks5://…, or none, or - to read it from standard input (default $HTTPS_PROXY)")
	cmd.Flags().StringSliceVar(&w.transports, "transports", nil, "the transports to try: quic, tls, wss (default all)")
	fixed(cmd, "transports", config.Transports()...)
}

// agent is the agent that was typed. in is where a proxy comes from that nobody else on this machine is to see.
func (w *wayFlags) agent(in *secretLines) (*config.Agent, error) {
	proxy, err := in.read(w.proxy, "the proxy")
	if err != nil {
		return nil, err
	}
	a, err := config.NewAgent(proxy, w.transports)
	if err != nil {
		return nil, &usageError{err: err, hint: config.HintAgent(err)}
	}
	return a, nil
}

func newJoin(g *globals) *cobra.Command {
	var way wayFlags
	var name string
	cmd := &cobra.Command{
		Use:   "join HOST:PORT [TOKEN|-] [--name NAME]",
		Short: "Make this machine an agent of a hub",
		Long: `Enrol this machine at a hub, and exit. HOST:PORT and TOKEN are what "fairlead hub" or "fairlead agents token" printed there. The token is good
once; after it this machine has a key pair of its own, and goes on with no other hub than the one that the token is of.

Other users of this machine see the words of a command while it runs. Where that matters, write - for the token, which is read from
standard input then, or leave it out and have it in $FAIRLEAD_TOKEN; and have a proxy with a password in $HTTPS_PROXY, in the file, or
read with "--proxy -", one line after the token.

Then "fairlead share" shows a port of this machine at the hub, or "fairlead up" with [agent] in its file does.`,
		Example: `  fairlead join hub.example.com:443 TOKEN
  fairlead join hub.example.com:443 TOKEN --name home
  fairlead join hub.example.com:443 - < token
  FAIRLEAD_TOKEN=… fairlead join hub.example.com:443`,
		Args:              cobra.RangeArgs(1, 2),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, args []string) error {
			log, err := g.logger(cmd.ErrOrStderr(), slog.LevelError)
			if err != nil {
				return err
			}
			in := &secretLines{from: cmd.InOrStdin()}
			word := os.Getenv(tokenEnv)
			if len(args) > 1 {
				if word, err = in.read(args[1], "the token"); err != nil {
					return err
				}
			}
			if word == "" {
				return usagef("write it like this: fairlead join HOST:PORT TOKEN, or - for a token from standard input, or set $"+tokenEnv, "there is no token")
			}
			want, err := way.agent(in)
			if err != nil {
				return err
			}
			if err := config.CheckHubAddress(args[0]); err != nil {
				return &usageError{err: err, hint: "write it as the hub printed it: fairlead join HOST:PORT TOKEN"}
			}
			token, err := hub.ParseToken(word)
			if err != nil {
				return advise(err, "copy it whole; `fairlead agents token` on the hub prints another")
			}
			if name != "" {
				if err := config.CheckAgentName(name); err != nil {
					return &usageError{err: err, hint: config.Help("")}
				}
			}
			state, err := g.stateDir()
			if err != nil {
				return err
			}
			m, err := join(cmd.Context(), state, dialAddress(args[0]), token, name, want, log)
			if err != nil {
				return explainJoin(err)
			}
			return sayJoined(cmd.OutOrStdout(), m)
		},
	}
	cmd.Flags().StringVar(&name, "name", "", "what this machine is called at the hub (default its own name, unless the token says another)")
	way.register(cmd)
	return cmd
}

// tokenEnv has a token for `fairlead join` that is not to stand among its words.
const tokenEnv = "FAIRLEAD_TOKEN"

// secretLines are secrets that come by standard input, one on each line.
type secretLines struct {
	from  io.Reader
	lines *bufio.Scanner
}

// read is what was typed, or for - the next line. what is what it is for, in words.
func (s *secretLines) read(typed, what string) (string, error) {
	if typed != "-" {
		return typed, nil
	}
	if s.lines == nil {
		s.lines = bufio.NewScanner(s.from)
	}
	if !s.lines.Scan() {
		return "", advise(cmp.Or(s.lines.Err(), fmt.Errorf("standard input has no line for %s", what)), "- reads it from there: one line for each -")
	}
	return strings.TrimSpace(s.lines.Text()), nil
}

func sayJoined(w io.Writer, m membership) error {
	file := systemFile
	if os.Geteuid() > 0 { // -1 on Windows
		file = "a file for `fairlead up -c FILE`"
	}
	_, err := fmt.Fprintf(w, `this machine is the agent %q of %s
next: `+"`fairlead share 8080`"+` shows its port 8080 at the hub; or, as a service, forwards with at = "hub" below [agent] in %s
`, plain(m.Name), plain(m.Hub), file)
	return err
}

// join enrols this host and writes down where.
func join(ctx context.Context, state, addr string, token hub.Token, name string, way *config.Agent, log *slog.Logger) (membership, error) {
	ctx, cancel := context.WithTimeout(ctx, joinTime)
	defer cancel()
	m := membership{Hub: addr, Key: token.Hub.String(), Name: name}
	identity, err := loadAgent(state)
	if err != nil {
		return m, err
	}
	dialer, err := link.NewDialer(link.DialOptions{
		Identity: identity, Hub: []string{addr}, Key: token.Hub, Transports: way.Transports, Proxy: string(way.Proxy), Log: log,
	})
	if err != nil {
		return m, err
	}
	if name == "" {
		name, _ = os.Hostname()
	}
	l, err := dialer.Dial(ctx)
	if err != nil {
		return m, err
	}
	defer l.Close()
	told, err := agent.Enrol(ctx, l, token.Secret(), name, programName())
	if err != nil {
		return m, err
	}
	m.Name = told.Name
	if err := writeMembership(state, m); err != nil {
		return m, err
	}
	return m, shareState(state)
}

// programName is what this program calls itself to the other end.
func programName() string { return programPrefix + version() }

const programPrefix = "fairlead "

// explainJoin says what to do about an error.
func explainJoin(err error) error {
	var wrong *link.WrongKeyError
	var said *tunnel.Error
	switch {
	case errors.As(err, &wrong):
		err = fmt.Errorf("the hub has the key %v, and the token is of the hub with the key %v", wrong.Got, wrong.Want)
		return advise(err, "the machine at this address is another one than the token is of; `fairlead agents token` on the hub prints what belongs together")
	case errors.As(err, &said) && said.Code == tunnel.Secret:
		return advise(err, "a token is good once, and for an hour; `fairlead agents token` on the hub prints another")
	case errors.As(err, &said) && said.Code == tunnel.Version:
		return advise(err, "`fairlead version` on both machines shows which is the older one")
	case errors.As(err, &said):
		return err
	}
	return advise(err, "is the address right, and does a firewall let in the hub's port, of TCP and UDP? Where nothing else leads out, --proxy may")
}
