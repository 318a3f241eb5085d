package config

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/fairlead-net/fairlead/forward"
	"github.com/fairlead-net/fairlead/password"
)

// MaxUsers is how many users one configuration declares.
const MaxUsers = 10_000

// A userTable is [users.NAME] as it is written.
type userTable struct {
	Password Secret
	Permit   Strings
	Deny     Strings
}

func (t *userTable) field(key string) any {
	switch key {
	case "password":
		return &t.Password
	case "permit":
		return &t.Permit
	case "deny":
		return &t.Deny
	}
	return nil
}

func userSheet(name string, t *userTable) sheet {
	return sheet{table: "users", name: name, what: "user", keys: []string{"password", "permit", "deny"}, field: t.field, help: helpUser}
}

func helpUser(key string) string {
	switch key {
	case "":
		return Help("")
	case "password":
		return "password is what `fairlead user add NAME` makes of one, not the password itself"
	case "permit", "deny":
		return key + ` is one or several destinations, such as "*.example.com", "10.0.0.0/8" or "192.0.2.7:443"`
	}
	return ""
}

func (r *reader) readUsers(all *node) {
	if !r.hasTables(all, "user") {
		return
	}
	if n := len(all.children); n > MaxUsers {
		r.add(problem{at: all.children[MaxUsers].at, msg: fmt.Sprintf("the file has %d users; %d is the most", n, MaxUsers), hint: "one user may log in from several places at once"})
		return
	}
	for _, n := range all.children {
		var t userTable
		s := userSheet(n.name, &t)
		user := forward.User{Name: n.name} // whatever is wrong with it, it is declared
		if n.shape.isTable() {
			bad := r.fill(n, s)
			var err error
			user, err = t.user(n.name)
			r.refuse(n, s, bad, err)
		} else {
			r.add(s.notTable(n))
		}
		r.settings.Users = append(r.settings.Users, user)
	}
	slices.SortFunc(r.settings.Users, func(a, b forward.User) int { return strings.Compare(a.Name, b.Name) })
}

// user is the user that t declares.
func (t userTable) user(name string) (forward.User, error) {
	var c checker
	if name == "" {
		c.check("", errors.New("a user needs a name"))
	} else {
		c.check("", forward.CheckName(name))
	}
	if t.Password == "" {
		c.check("password", errors.New("a user needs a password"))
	} else {
		c.check("password", checkHash(string(t.Password)))
	}
	u := forward.User{Name: name, Password: forward.PasswordHash(t.Password), Policy: c.policy(t.Permit, t.Deny)}
	return u, c.err()
}

// checkHash holds a password to being a hash. The error does not say what was written: it may be the password.
func checkHash(hash string) error {
	const hint = "`fairlead user add NAME` asks for the password and writes the line; argon2id and bcrypt are read as well"
	if !strings.HasPrefix(hash, "$argon2id$") && !strings.HasPrefix(hash, "$2") {
		return withHint{errors.New("this is no hash of a password; passwords are not kept in clear"), hint}
	}
	if err := password.Validate(hash); err != nil {
		return withHint{err, hint}
	}
	return nil
}

// CheckUsers says whether the users that a dynamic forward names are declared, and whether anybody could log in where clients
// have to. The list, sorted by name, are those that are declared. The error is one *forward.FieldError or several joined, for
// Hint. Spec.Forward cannot know: it looks at the names alone.
func CheckUsers(f *forward.Forward, list []forward.User) error {
	if f.Dynamic() == forward.HeadNone && f.Site.Auth != forward.AuthBasic {
		return nil
	}
	var c checker
	c.check("auth", checkLogins(f, list))
	for i, name := range f.Users {
		if !userDeclared(list, name) {
			c.check("users", itemError{i, lateHint{fmt.Errorf("no user %q is declared", name), func() string { return hintUser(name, list) }}})
		}
	}
	if f.Dynamic() != forward.HeadNone && f.NeedsLogin() && len(f.Users) == 0 && len(list) == 0 {
		c.check("listen", withHint{
			errors.New("a proxy that is called from beyond this host has users who log in, and no user is declared"),
			"`fairlead user add NAME` declares one; or listen on loopback, such as \"127.0.0.1:1080\"",
		})
	}
	return c.err()
}

func userDeclared(list []forward.User, name string) bool {
	_, found := slices.BinarySearchFunc(list, name, func(u forward.User, name string) int { return strings.Compare(u.Name, name) })
	return found
}

func hintUser(name string, list []forward.User) string {
	names := make([]string, len(list))
	for i, u := range list {
		names[i] = u.Name
	}
	hint := fmt.Sprintf("declare one: `fairlead user add %s`", name)
	if meant := nearest(name, names); meant != "" {
		hint = fmt.Sprintf("did you mean %q? Else %s", meant, hint)
	}
	return hint
}
