package config_test

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/fairlead-net/fairlead/config"
	"github.com/fairlead-net/fairlead/forward"
)

const otherHash = "$argon2id$v=19$m=19456,t=2,p=1$ZmFpcmxlYWRzYWx0MTIzNA$xLlJ0rTL4yJpvwAEQZDzxsSlXU4zlzp2UzmFTTSBWH4"

const userAnna = "[users.anna]\npassword = \"" + hash + "\"\n"

func TestAddUser(t *testing.T) {
	const proxy = "[forward.a]\nlisten = \"1080\"\nto = \"socks\"\n" // is refused until there is a user
	for _, test := range []struct{ in, name, out string }{
		{"", "anna", userAnna},
		{proxy, "anna", proxy + "\n" + userAnna},
		{"# end", "anna", "# end\n\n" + userAnna},
		{"# end\r\n", "anna", "# end\r\n\r\n" + strings.ReplaceAll(userAnna, "\n", "\r\n")},
		{"\ufeff# end\n", "anna", "\ufeff# end\n\n" + userAnna},
		{"", "a.b", "[users.\"a.b\"]\npassword = \"" + hash + "\"\n"},
		{"[users]\n", "anna", "[users]\n\n" + userAnna},
	} {
		out, err := config.AddUser("x", []byte(test.in), test.name, hash)
		if err != nil || string(out) != test.out {
			t.Errorf("%q: %q, %v", test.in, out, err)
		}
		if _, err := config.AddUser("x", out, test.name, hash); !errors.Is(err, config.ErrUserThere) {
			t.Errorf("%q, again: %v", test.in, err)
		}
	}
	for in, want := range map[string]string{
		"[forward.a]\nlisten = \"80\"": "x:1:1",
		"[forward":                     "x:1:",
		"users = {}":                   "x:",
		"\x00":                         "zero byte",
		strings.Repeat("#\n", config.MaxSize/2+1): "larger than",
	} {
		var errs config.Errors
		if out, err := config.AddUser("x", []byte(in), "anna", hash); !errors.As(err, &errs) || !strings.Contains(err.Error(), want) {
			t.Errorf("%.20q: %q, %v", in, out, err)
		}
	}
	if _, err := config.AddUser("x", nil, "a b", hash); err == nil {
		t.Error("a bad name was added")
	}
}

func TestSetPassword(t *testing.T) {
	for _, in := range []string{
		"# a\n" + userAnna + "# b\n", "users.anna.password = '" + hash + "' # c\n", "[users]\nanna = { password = \"" + hash + "\", permit = \"*\" }",
		"[users.anna]\npassword   =\"not a \\\"hash\" # c", "\ufeff[users.anna]\r\npassword = \"" + hash + "\"\r\n",
	} {
		out, err := config.SetPassword("x", []byte(in), "anna", otherHash)
		if err != nil {
			t.Errorf("%q: %v", in, err)
			continue
		}
		back, err := config.SetPassword("x", out, "anna", hash)
		want := strings.NewReplacer("'"+hash+"'", `"`+hash+`"`, `"not a \"hash"`, `"`+hash+`"`).Replace(in)
		if err != nil || string(back) != want || bytes.Contains(out, []byte(hash)) {
			t.Errorf("%q became %q and then %q (%v)", in, out, back, err)
		}
	}
	for in, want := range map[string]error{
		"": config.ErrUserAbsent, "[users.ben]\npassword = \"x\"": config.ErrUserAbsent, "[users.anna]\npermit = \"*\"": config.ErrByHand,
		"[users.anna]\npassword = 5": config.ErrByHand, "[users.anna]\npassword = \"\"\"x\"\"\"": config.ErrByHand, "users.anna = 5": config.ErrByHand,
	} {
		if out, err := config.SetPassword("x", []byte(in), "anna", hash); !errors.Is(err, want) {
			t.Errorf("%q: %q, %v", in, out, err)
		}
	}
}

func TestRemoveUser(t *testing.T) {
	const forwardA = "[forward.a]\nlisten = \"80\"\nto = \"h\"\n"
	for _, test := range []struct{ in, out string }{
		{userAnna, ""},
		{forwardA + "\n" + userAnna, forwardA + "\n"},
		{forwardA + "\n# her\n" + userAnna + "permit = [\n  \"*\", # all\n]\n\n# about ben\n[users.ben]\npassword = \"" + hash + "\"\n",
			forwardA + "\n# her\n\n# about ben\n[users.ben]\npassword = \"" + hash + "\"\n"},
		{userAnna + "\n# about a\n" + forwardA, "# about a\n" + forwardA},
		{forwardA + "\n" + userAnna + "\n" + strings.ReplaceAll(userAnna, "anna", "ben"), forwardA + "\n" + strings.ReplaceAll(userAnna, "anna", "ben")},
		{"  " + userAnna + "  " + forwardA, "  " + forwardA},
	} {
		out, err := config.RemoveUser("x", []byte(test.in), "anna")
		if err != nil || string(out) != test.out {
			t.Errorf("%q became %q (%v), want %q", test.in, out, err, test.out)
		}
	}
	for in, want := range map[string]error{
		"": config.ErrUserAbsent, "users.anna.password = \"" + hash + "\"": config.ErrByHand,
	} {
		if _, err := config.RemoveUser("x", []byte(in), "anna"); !errors.Is(err, want) {
			t.Errorf("%q: %v", in, err)
		}
	}
	// The last user of a proxy stays: without one the file would be refused.
	_, err := config.RemoveUser("x", []byte("[forward.a]\nlisten = \"1080\"\nto = \"socks\"\n"+userAnna), "anna")
	if !errors.As(err, new(config.Errors)) || !strings.Contains(err.Error(), "no user is declared") {
		t.Errorf("%v", err)
	}
}

// FuzzEdit: whatever the text is, an edit either fails or changes one user and nothing else.
func FuzzEdit(f *testing.F) {
	for _, s := range []string{
		"", userAnna, "users.anna.password = 'x'", "[users]\nanna = {password = \"x\"}", "[[users]]", "\ufeff" + userAnna + "\r\n[forward.a]\r\nlisten=\"80\"\r\nto=\"h\"",
		"[users.anna]\npassword = \"x\" # \"\n[users.anna.x]\n[sshd]\nlisten = \"22\"", "[users.anna]\npassword = \"" + hash + "\"\ndeny = '''\n# [x]\n'''",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		before, _ := config.Parse("x", data)
		for i, change := range []func() ([]byte, error){
			func() ([]byte, error) { return config.AddUser("x", data, "anna", otherHash) },
			func() ([]byte, error) { return config.SetPassword("x", data, "anna", otherHash) },
			func() ([]byte, error) { return config.RemoveUser("x", data, "anna") },
		} {
			out, err := change()
			if err != nil {
				continue
			}
			after, err := config.Parse("x", out)
			if err != nil {
				t.Fatalf("change %d of %q made %q: %v", i, data, out, err)
			}
			if before == nil {
				continue
			}
			rest := func(c *config.Config) config.Settings {
				s := c.Settings
				s.Users = slices.DeleteFunc(slices.Clone(s.Users), func(u forward.User) bool { return u.Name == "anna" })
				return s
			}
			if !rest(before).Equal(rest(after)) || !slices.EqualFunc(before.Forwards, after.Forwards, (*forward.Forward).Equal) {
				t.Errorf("change %d of %q made %q, which changes more", i, data, out)
			}
		}
	})
}
