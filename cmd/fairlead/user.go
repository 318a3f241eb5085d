package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/fairlead-net/fairlead/config"
	"github.com/fairlead-net/fairlead/forward"
	"github.com/fairlead-net/fairlead/password"
)

func newUser() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "user",
		Short: "Say who may use proxies: add, remove and list users of a file",
		Long: `Users log in to proxies, forwards with to = "socks", "http" or "proxy". They stand in the file as [users.NAME] tables with
hashes of their passwords. These commands change the text of the file and nothing else in it; "fairlead apply" brings it to the
running daemon.`,
		Example: `  fairlead user add anna
  fairlead user list`,
		Args: noSuchUserCommand,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newUserAdd(), newUserRemove(), newUserList())
	return cmd
}

func noSuchUserCommand(_ *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	return usagef("`fairlead user add`, `rm` and `list` are the commands", "there is no command \"user %s\"", args[0])
}

func registerUserFile(cmd *cobra.Command, file *string) {
	registerFile(cmd, file, "the file that the users stand in")
	cmd.Flags().Lookup("config").DefValue = systemFile
	*file = systemFile
}

func newUserAdd() *cobra.Command {
	var file string
	var show, replace bool
	cmd := &cobra.Command{
		Use:   "add NAME [-c FILE] [--print | --replace]",
		Short: "Add a user of proxies, or change a password",
		Long: `Ask for a password, twice, and write NAME and the hash of the password to the end of the file. Without a terminal the
password is the first line of standard input. A file that would not be valid then is left as it is.`,
		Example: `  fairlead user add anna
  fairlead user add anna -c fairlead.toml --replace
  pass show proxy/anna | fairlead user add anna --print`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, args []string) error {
			name := args[0]
			if err := forward.CheckName(name); err != nil {
				return &usageError{err: err, hint: config.Help("")}
			}
			if show && (replace || cmd.Flags().Changed("config")) {
				return usagef("leave --print out to change the file", "--print reads and changes no file; --replace and --config are for one")
			}
			change := config.AddUser
			if replace {
				change = config.SetPassword
			}
			if !show { // nobody types a password twice to hear then that it is of no use
				if err := tryUser(file, name, replace); err != nil {
					return err
				}
			}
			hash, err := askHash(cmd.Context(), name, cmd.InOrStdin(), cmd.ErrOrStderr())
			if err != nil {
				return err
			}
			if show {
				_, err := io.WriteString(cmd.OutOrStdout(), config.UserLines(name, hash))
				return err
			}
			if err := editFile(file, func(data []byte) ([]byte, error) { return change(file, data, name, hash) }); err != nil {
				return userError(err, file, name)
			}
			said := "was added to"
			if replace {
				said = "has another password in"
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s %s %s\n", name, said, file)
			return nil
		},
	}
	registerUserFile(cmd, &file)
	cmd.Flags().BoolVar(&show, "print", false, "print the lines instead of writing them")
	cmd.Flags().BoolVar(&replace, "replace", false, "change the password of a user who is there")
	return cmd
}

// tryUser is what stands against adding a user to a file, or against changing a password, whatever the password will be.
func tryUser(file, name string, replace bool) error {
	data, err := config.Read(file)
	if err != nil {
		return err
	}
	const none = "$2b$10$N9qo8uLOickgx2ZMRZoMyeIjZAgcfl7p92ldGxad68LJZdL17lhWy" // the form of a hash is all that is looked at
	if replace {
		_, err = config.SetPassword(file, data, name, none)
	} else {
		_, err = config.AddUser(file, data, name, none)
	}
	return userError(err, file, name)
}

// userError says what an edit that could not be is about, and what to do.
func userError(err error, file, name string) error {
	said := fmt.Errorf("%s: user %q: %w", file, name, err)
	switch {
	case errors.Is(err, config.ErrUserThere):
		return advise(said, "`fairlead user add "+name+" --replace` changes the password")
	case errors.Is(err, config.ErrUserAbsent):
		return advise(said, "`fairlead user list` shows who is there")
	case errors.Is(err, config.ErrByHand):
		return advise(said, "`fairlead user add "+name+" --print` prints what to write there")
	}
	return err
}

func newUserRemove() *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:   "rm NAME [-c FILE]",
		Short: "Remove a user of proxies",
		Long: `Take the table of a user out of the file. A file that would not be valid then, as one with a proxy that needs users and has
none left, stays as it is.`,
		Example:           `  fairlead user rm anna`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, args []string) error {
			name := args[0]
			err := editFile(file, func(data []byte) ([]byte, error) { return config.RemoveUser(file, data, name) })
			if err != nil {
				if errors.Is(err, config.ErrByHand) {
					return advise(fmt.Errorf("%s: user %q: %w", file, name, err), "take the user out with an editor")
				}
				return userError(err, file, name)
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s was removed from %s\n", name, file)
			return nil
		},
	}
	registerUserFile(cmd, &file)
	return cmd
}

// shownUser is one user as `fairlead user list --json` shows them.
type shownUser struct {
	Name   string   `json:"name"`
	Hash   string   `json:"hash"` // the kind: "argon2id" or "bcrypt"
	Permit []string `json:"permit"`
	Deny   []string `json:"deny"`
}

func newUserList() *cobra.Command {
	var file string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "list [-c FILE] [--json]",
		Short: "List users of proxies",
		Long:  `List the users of a file and where they may go. Hashes are not shown, only of which kind they are.`,
		Example: `  fairlead user list
  fairlead user list -c fairlead.toml --json`,
		Args:              cobra.NoArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := config.Load(file)
			if err != nil {
				return err
			}
			return printUsers(cmd.OutOrStdout(), cfg.Settings.Users, asJSON)
		},
	}
	registerUserFile(cmd, &file)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func printUsers(w io.Writer, users []forward.User, asJSON bool) error {
	shown := make([]shownUser, len(users))
	for i, u := range users {
		shown[i] = shownUser{Name: u.Name, Hash: "bcrypt", Permit: rulesOf(u.Policy.Permit), Deny: rulesOf(u.Policy.Deny)}
		if strings.HasPrefix(u.Password.Reveal(), "$argon2id$") {
			shown[i].Hash = "argon2id"
		}
	}
	switch {
	case asJSON:
		return printJSON(w, struct {
			Users []shownUser `json:"users"`
		}{shown})
	case len(shown) == 0:
		_, err := fmt.Fprintln(w, "the file has no users")
		return err
	}
	g := newGrid("NAME", "HASH", "PERMIT", "DENY")
	for _, u := range shown {
		g.row(u.Name, u.Hash, orDash(strings.Join(u.Permit, ", ")), orDash(strings.Join(u.Deny, ", ")))
	}
	return g.print(w)
}

func rulesOf(rules []forward.Rule) []string {
	list := make([]string, len(rules))
	for i, r := range rules {
		list[i] = r.String()
	}
	return list
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// askHash gets a password and hashes it.
func askHash(ctx context.Context, name string, in io.Reader, prompts io.Writer) (forward.PasswordHash, error) {
	file, _ := in.(*os.File)
	text, err := readPassword(ctx, name, file, prompts)
	if err != nil {
		return "", err
	}
	hash, err := password.Hash(text)
	return forward.PasswordHash(hash), err
}
