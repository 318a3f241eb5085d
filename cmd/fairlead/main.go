// Command fairlead forwards ports: one forward in the foreground, or many by a daemon and the commands that steer it.
//
// The commands only read what was typed, call the rooms and print; what a forward means is decided in forward, config and
// table. The voice of the program: results go to stdout, everything else to stderr; an error says what went wrong after
// "fairlead:" and what to do after "hint:". Exit codes: 0 done, 1 refused or failed, 2 usage.
package main

import (
	"context"
	"errors"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
)

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

// run is the program without the process: it returns the exit code.
func run(args []string, stdout, stderr io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	root := newRoot()
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	return report(stderr, root.ExecuteContext(ctx))
}

func newRoot() *cobra.Command {
	g := new(globals)
	root := &cobra.Command{
		Use:   "fairlead",
		Short: "Every kind of port forwarding in one program",
		Long: `Fairlead leads what arrives at one address and port to another: as the NAT of a gateway does, in the kernel, and as a
proxy does, in user space. It picks for each forward and says why.

"fairlead forward" does one forward, now, without a file or a daemon. "fairlead up" is the daemon that keeps up the forwards
of /etc/fairlead/fairlead.toml and those that are added to it; the other commands speak to it.`,
		Example: `  fairlead forward 8080 127.0.0.1:80
  fairlead check -c fairlead.toml
  fairlead up -c fairlead.toml
  fairlead status`,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          noSuchCommand,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SuggestionsMinimumDistance = 2
	root.CompletionOptions.DisableDefaultCmd = true
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return &usageError{err: err, hint: "`" + cmd.CommandPath() + " --help` lists the flags"}
	})
	g.register(root)
	root.AddCommand(
		newForward(g), newUp(g), newDown(g), newUpgrade(g), newCheck(), newApply(g), newConfirm(g), newStatus(g), newSessions(g), newLeases(g), newKill(g), newAgents(g),
		newAdd(g), newRemove(g), newUser(), newSSH(g), newHub(g), newJoin(g), newShare(g), newWake(g), newOpen(g), newGateway(g), newRender(), newVersion(g), newCompletion(), newMan(),
	)
	for _, cmd := range root.Commands() {
		explainArgs(cmd)
	}
	return root
}

// explainArgs makes a wrong number of arguments a usage error that shows the right ones.
func explainArgs(cmd *cobra.Command) {
	check := cmd.Args
	cmd.Args = func(cmd *cobra.Command, args []string) error {
		if check == nil {
			return nil
		}
		err := check(cmd, args)
		if err == nil || errors.As(err, new(*usageError)) {
			return err
		}
		return &usageError{err: err, hint: "write it like this: " + cmd.UseLine()}
	}
	for _, sub := range cmd.Commands() {
		explainArgs(sub)
	}
}

func noSuchCommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	hint := "`fairlead --help` lists the commands"
	if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
		hint = "did you mean `fairlead " + strings.Join(near, "` or `fairlead ") + "`?"
	}
	return usagef(hint, "there is no command %q", args[0])
}
