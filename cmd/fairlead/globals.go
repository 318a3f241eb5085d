package main

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/fairlead-net/fairlead/api"
)

// Where things are on a machine that was set up the usual way.
const (
	systemSocket = "/run/fairlead/fairlead.sock"
	systemState  = "/var/lib/fairlead"
	systemFile   = "/etc/fairlead/fairlead.toml"
	socketEnv    = "FAIRLEAD_SOCKET"
)

// globals are the flags that every command takes.
type globals struct {
	socket, state       string // "" is the default
	logLevel, logFormat string
}

func (g *globals) register(root *cobra.Command) {
	flags := root.PersistentFlags()
	flags.StringVar(&g.socket, "socket", "", "control socket of the daemon (default "+systemSocket+", else $XDG_RUNTIME_DIR/fairlead/fairlead.sock; or $"+socketEnv+")")
	flags.StringVar(&g.state, "state", "", "directory for what outlives the daemon (default "+systemState+", else $XDG_STATE_HOME/fairlead)")
	flags.StringVar(&g.logLevel, "log-level", "", "debug, info, warn or error (default info for up, warn for down, error for forward)")
	flags.StringVar(&g.logFormat, "log-format", "text", "text or json")
	for flag, words := range map[string][]string{"log-level": {"debug", "info", "warn", "error"}, "log-format": {"text", "json"}} {
		fixed(root, flag, words...)
	}
}

// logger makes the logger that the flags ask for; level is the one when they do not.
func (g *globals) logger(w io.Writer, level slog.Level) (*slog.Logger, error) {
	if g.logLevel != "" {
		if err := level.UnmarshalText([]byte(g.logLevel)); err != nil {
			return nil, usagef("write debug, info, warn or error", "--log-level: %q is no level", g.logLevel)
		}
	}
	options := &slog.HandlerOptions{Level: level}
	switch g.logFormat {
	case "text":
		return slog.New(slog.NewTextHandler(w, options)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(w, options)), nil
	}
	return nil, usagef("write text or json", "--log-format: %q is no format", g.logFormat)
}

// socketPath is where the daemon listens: what was said, else the system's place for root or when something is there
// already, else the user's own.
func (g *globals) socketPath() (string, error) {
	for _, said := range []string{g.socket, os.Getenv(socketEnv)} {
		if said != "" {
			return said, nil
		}
	}
	if os.Geteuid() == 0 {
		return systemSocket, nil
	}
	own := ""
	if dir := os.Getenv("XDG_RUNTIME_DIR"); dir != "" {
		own = filepath.Join(dir, "fairlead", "fairlead.sock")
	} else if dir, err := os.UserCacheDir(); err == nil { // where there is no such directory: macOS, Windows, a bare login
		own = filepath.Join(dir, "fairlead", "fairlead.sock")
	}
	if _, err := os.Stat(systemSocket); err == nil && (own == "" || !exists(own)) {
		return systemSocket, nil
	}
	if own == "" {
		return "", advise(errors.New("there is no place for the control socket: neither XDG_RUNTIME_DIR nor HOME is set"), "say one with --socket PATH")
	}
	return own, nil
}

// serverSocketPath is where a new daemon listens. A daemon of another user at the system's place does not draw it there.
func (g *globals) serverSocketPath() (string, error) {
	path, err := g.socketPath()
	if err != nil || path != systemSocket || os.Geteuid() == 0 || g.socket != "" || os.Getenv(socketEnv) != "" {
		return path, err
	}
	if dir := os.Getenv("XDG_RUNTIME_DIR"); dir != "" {
		return filepath.Join(dir, "fairlead", "fairlead.sock"), nil
	}
	return path, nil
}

// stateDir is the directory for what outlives the daemon, made when it is not there.
func (g *globals) stateDir() (string, error) {
	dir := g.state
	switch {
	case dir != "":
	case os.Geteuid() == 0:
		dir = systemState
	case os.Getenv("XDG_STATE_HOME") != "":
		dir = filepath.Join(os.Getenv("XDG_STATE_HOME"), "fairlead")
	default:
		home, err := os.UserHomeDir()
		if err != nil {
			return "", advise(fmt.Errorf("there is no place for the daemon's state: %w", err), "say one with --state DIR")
		}
		dir = filepath.Join(home, ".local", "state", "fairlead")
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", advise(fmt.Errorf("state directory: %w", err), "say another one with --state DIR")
	}
	return dir, nil
}

func (g *globals) client() (*api.Client, error) {
	path, err := g.socketPath()
	if err != nil {
		return nil, err
	}
	return api.NewClient(path), nil
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// fixed completes a flag with a fixed list of words.
func fixed(cmd *cobra.Command, flag string, words ...string) {
	if err := cmd.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(words, cobra.ShellCompDirectiveNoFileComp)); err != nil {
		panic(err) // the flag is not registered or has a completion: a mistake in this program
	}
}
