package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/fairlead-net/fairlead/api"
	"github.com/fairlead-net/fairlead/config"
	"github.com/fairlead-net/fairlead/forward"
	"github.com/fairlead-net/fairlead/kernel"
	"github.com/fairlead-net/fairlead/store"
)

// upFlags are the flags of `fairlead up`.
type upFlags struct {
	*globals
	file string // "" is systemFile where it exists, else none
	user string // "" is defaultUser where there is one, else no change
}

func newUp(g *globals) *cobra.Command {
	u := upFlags{globals: g}
	cmd := &cobra.Command{
		Use:   "up [-c FILE]",
		Short: "Run the daemon",
		Long: `Run the daemon in the foreground until SIGTERM or Ctrl-C. It carries the forwards of the file and those that were added to
it, and answers the other commands at the control socket. SIGHUP makes it read the file again. It tells systemd when it is
ready. Forwards that the kernel carries go on while it is stopped; "fairlead down" takes them away.

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
			return u.run(cmd.Context(), log)
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

// load reads the file; without one there are no forwards from a file.
func (u *upFlags) load() (*config.Config, string, error) {
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

func (u *upFlags) run(ctx context.Context, log *slog.Logger) error {
	cfg, file, err := u.load()
	if err != nil {
		return err
	}
	socket, err := u.serverSocketPath()
	if err != nil {
		return err
	}
	state, err := u.stateDir()
	if err != nil {
		return err
	}
	ln, err := api.Listen(socket)
	if err != nil {
		return err
	}
	defer ln.Close()
	st, err := store.Open(filepath.Join(state, "fairlead.db"))
	if err != nil {
		return err
	}
	defer st.Close()
	become, err := findUser(u.user)
	if err != nil {
		return err
	}
	become.give = func(uid, gid int) error { return errors.Join(ln.Chown(uid, gid), chownTree(state, uid, gid)) }
	if err := dropPrivileges(log, become); err != nil {
		return err
	}
	if file == "" {
		log.Info("no file: there are only the forwards that were added", "missing", systemFile)
	}
	d := &daemon{engine: newEngine("", st, log), flags: u, log: log}
	return d.run(ctx, ln, file, cfg)
}

// A daemon is an engine with a control socket, a file and a service manager.
type daemon struct {
	*engine
	flags  *upFlags
	log    *slog.Logger
	server *api.Server
}

// run brings the forwards up and serves until ctx ends or a client asks for down.
//
//	engine ──► ready ──► file applied ──► service manager told
//	down: engine stopped and waited for, rules removed, client answered, the rest stopped
func (d *daemon) run(ctx context.Context, ln *api.Listener, file string, cfg *config.Config) error {
	ctx, end := context.WithCancel(ctx)
	defer end()
	working, stopWorking := context.WithCancel(ctx)
	defer stopWorking()
	stopped := make(chan struct{})
	d.server = api.NewServer(api.Options{
		Table: d.table, Sessions: d.engine, Log: d.log,
		Version: api.Version{Version: version(), PID: os.Getpid(), File: file},
		Down: func(ctx context.Context) error {
			stopWorking()
			<-stopped
			return clearKernel(d.kernel)
		},
	})
	tasks, ctx := errgroup.WithContext(ctx)
	tasks.Go(func() error {
		defer close(stopped)
		err := d.engine.run(working)
		if err != nil || ctx.Err() == nil && working.Err() == nil {
			end()
		}
		return err
	})
	tasks.Go(func() error {
		defer end()
		return d.server.Run(ctx, ln)
	})
	tasks.Go(func() error { return d.start(working, file, cfg) })
	tasks.Go(func() error { return d.notify(ctx) })
	err := tasks.Wait()
	d.log.Info("stopped")
	return err
}

// start hands the file's forwards to the table and tells who waits that the daemon is ready.
func (d *daemon) start(ctx context.Context, file string, cfg *config.Config) error {
	select {
	case <-d.table.Ready():
	case <-ctx.Done():
		return nil
	}
	if _, err := d.table.Replace(ctx, forward.OriginFile, cfg.Forwards); err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return fmt.Errorf("%s: %w", file, err)
	}
	d.log.Info("ready", "file", file, "forwards", len(d.table.Snapshot()))
	d.tell(ready)
	kernel.CleanStale(d.log)
	return d.reloads(ctx)
}
