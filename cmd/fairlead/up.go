package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/fairlead-net/fairlead/api"
	"github.com/fairlead-net/fairlead/config"
	"github.com/fairlead-net/fairlead/store"
)

// upFlags are the flags of `fairlead up`.
type upFlags struct {
	*globals
	file string // "" is systemFile where it exists, else none
	user string // "" is defaultUser where there is one, else no change

	given  *config.Config                             // what holds instead of a file; nil: nothing
	beside func(ctx context.Context, d *daemon) error // runs beside the daemon, which ends when it does; nil: nothing
}

func newUp(g *globals) *cobra.Command {
	u := upFlags{globals: g}
	cmd := &cobra.Command{
		Use:   "up [-c FILE]",
		Short: "Run the daemon",
		Long: `Run the daemon in the foreground until SIGTERM or Ctrl-C. It carries the forwards of the file and those that were added to
it, and answers the other commands at the control socket. SIGHUP makes it read the file again. It tells systemd when it is
ready, and leaves it the sessions of the relay for the process that comes next: "systemctl restart" ends none. Forwards that
the kernel carries go on while it is stopped; "fairlead down" takes them away.

Started as root it keeps the rights to change the network and to bind low ports, and drops all others.`,
		Example: `  fairlead up
  fairlead up -c fairlead.toml --log-level debug
  fairlead up -c fairlead.toml --socket /tmp/fl.sock --state /tmp/fl`,
		Args:              cobra.NoArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			log, err := g.logger(cmd.ErrOrStderr(), slog.LevelInfo)
			if err != nil {
				return err
			}
			return u.live(cmd.Context(), log)
		},
	}
	registerFile(cmd, &u.file, "the file with the forwards (default "+systemFile+" if it exists)")
	cmd.Flags().StringVar(&u.user, "user", "", "as root: become this user once everything is open (default "+defaultUser+" if it exists)")
	return cmd
}

func registerFile(cmd *cobra.Command, file *string, usage string) {
	cmd.Flags().StringVarP(file, "config", "c", "", usage)
	if err := cmd.MarkFlagFilename("config", "toml"); err != nil {
		panic(err) // there is no such flag: a mistake in this program
	}
}

// live is the daemon from start to end, and the program that goes on in its place, if there is one.
func (u *upFlags) live(ctx context.Context, log *slog.Logger) error {
	next, left, err := u.run(ctx, log)
	if next != nil {
		err = next.become(left) // which returns only if it fails
	}
	deposit(left, log)
	return err
}

// load reads the file; without one there are no forwards from a file.
func (u *upFlags) load() (*config.Config, string, error) {
	if u.given != nil {
		return u.given, "", nil
	}
	if u.file != "" {
		file, err := filepath.Abs(u.file) // the daemon may be asked from another directory
		if err != nil {
			return nil, "", err
		}
		cfg, err := config.Load(u.file)
		return cfg, file, err
	}
	if _, err := os.Stat(systemFile); errors.Is(err, fs.ErrNotExist) {
		return new(config.Config), "", nil
	}
	cfg, err := config.Load(systemFile)
	return cfg, systemFile, err
}

// run is the daemon from start to end. left is what it leaves open, nil when it has closed everything, and next the program that
// goes on with that in its place, nil when there is none.
func (u *upFlags) run(ctx context.Context, log *slog.Logger) (next *successor, left *legacy, err error) {
	collectAsBefore := collectLess()
	defer collectAsBefore()
	cfg, file, err := u.load()
	if err != nil {
		return nil, nil, err
	}
	socket, err := u.serverSocketPath()
	if err != nil {
		return nil, nil, err
	}
	state, err := u.stateDir()
	if err != nil {
		return nil, nil, err
	}
	ln, err := api.Listen(socket)
	if err != nil {
		return nil, nil, err
	}
	defer ln.Close()
	st, err := store.Open(filepath.Join(state, "fairlead.db"))
	if err != nil {
		return nil, nil, err
	}
	defer st.Close()
	earlier, err := inherited(log) // late: what the service manager keeps is still there after a start that failed before
	if err != nil {
		return nil, nil, err
	}
	defer func() {
		if err != nil && left == nil {
			left = earlier // for the next start
		}
	}()
	if earlier != nil && os.Geteuid() != 0 {
		u.user = "" // the program before has become that user
	}
	become, err := findUser(u.user)
	if err != nil {
		return nil, nil, err
	}
	become.give = func(uid, gid int) error { return errors.Join(ln.Chown(uid, gid), giveState(state, uid, gid)) }
	if err := dropPrivileges(log, become); err != nil {
		return nil, nil, err
	}
	if file == "" && u.given == nil {
		log.Info("no file: there are only the forwards that were added", "missing", systemFile)
	}
	d := &daemon{engine: newEngine(engineOptions{store: st, left: earlier, state: state, socket: socket, gateway: true, log: log}), flags: u, log: log, started: collectAsBefore}
	if canDeposit() {
		d.relay.Leave()
	}
	err = d.run(ctx, ln, file, cfg)
	if binary := d.next.Load(); err == nil && binary != nil {
		// Said again, because what they are by default depends on the user.
		args := append(slices.Clone(os.Args), "--socket", socket, "--state", state)
		next = &successor{*binary, args}
	}
	return next, d.engine.left(), err
}

// A daemon is an engine with a control socket, a file and a service manager.
type daemon struct {
	*engine
	flags   *upFlags
	log     *slog.Logger
	server  *api.Server
	started func()                 // called once all is applied
	next    atomic.Pointer[string] // the program to become
}

// run carries the forwards and serves until ctx ends or a client has asked for down.
//
//	file's forwards in the table ──► engine ──► every forward handed to its carrier once ──► service manager told
func (d *daemon) run(ctx context.Context, ln *api.Listener, file string, cfg *config.Config) error {
	if before, ok := d.table.Unconfirmed(); ok {
		d.log.Warn("the last apply was not confirmed before the daemon died; what held before it holds, not the file", "file", file)
		cfg = before
	}
	// Before the engine runs: its first act is to take away from the kernel what is not in the table.
	if _, err := d.table.ReplaceFile(ctx, cfg); err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	ctx, end := context.WithCancel(ctx)
	defer end()
	d.server = api.NewServer(api.Options{
		Table: d.table, Sessions: d.engine, Leases: leases{d.desk}, Agents: d.settings.hub, Wake: wakeForward, Published: d.router.publisher.State, Problems: d.problems, Down: d.table.Down, Upgrade: d.upgradeTo, Log: d.log,
		Version: api.Version{Version: version(), PID: os.Getpid(), File: file, Started: time.Now()},
	})
	tasks, ctx := errgroup.WithContext(ctx)
	tasks.Go(func() error { return d.engine.run(ctx) })
	tasks.Go(func() error {
		defer end()
		return d.server.Run(ctx, ln)
	})
	tasks.Go(func() error { return d.reloads(ctx) })
	tasks.Go(func() error { return d.notify(ctx) })
	if d.flags.beside != nil {
		tasks.Go(func() error {
			defer end()
			return d.flags.beside(ctx, d)
		})
	}
	err := tasks.Wait()
	d.log.Info("stopped")
	return err
}

// problems is what is wrong that is no forward's fault.
func (d *daemon) problems() []string {
	list := d.router.problems()
	servers := []interface{ problem() string }{d.settings.sshd, d.settings.hub, d.settings.agent}
	for _, s := range d.settings.grants.servers {
		servers = append(servers, s)
	}
	for _, s := range servers {
		if p := s.problem(); p != "" {
			list = append(list, p)
		}
	}
	return list
}
