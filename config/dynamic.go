package config

import (
	"errors"
	"fmt"
	"strings"

	"github.com/fairlead-net/fairlead/forward"
)

// dynamicField is field for the keys of a dynamic forward.
func (s *Spec) dynamicField(key string) any {
	switch key {
	case "users":
		return &s.Users
	case "permit":
		return &s.Permit
	case "deny":
		return &s.Deny
	case "pac":
		return &s.PAC
	case "direct":
		return &s.Direct
	case "through":
		return &s.Through
	}
	return nil
}

// dynamic reads into f what is for a dynamic forward.
func (s Spec) dynamic(f *forward.Forward, check func(field string, err error)) {
	var err error
	f.Users, err = parseNames(s.Users)
	check("users", err)
	c := checker{}
	f.Policy = c.policy(s.Permit, s.Deny)
	for _, err := range c.errs {
		var field *forward.FieldError
		if errors.As(err, &field) {
			check(field.Field, field.Err)
		}
	}
	f.PAC.Serve = s.PAC
	f.PAC.Direct, err = parseRules(s.Direct, "leave the key out when everything goes through the proxy")
	check("direct", err)
	f.PAC.Through, err = parseRules(s.Through, "leave the key out when everything that is not direct goes through the proxy")
	check("through", err)
}

// parseNames reads the names of users.
func parseNames(list Strings) ([]string, error) {
	if len(list) > maxRules {
		return nil, withHint{fmt.Errorf("the list has %d names; %d is the most", len(list), maxRules), "leave users out for everybody who is declared"}
	}
	names, err := parseList(list, "leave users out for everybody who is declared", func(s string) (string, error) {
		return s, checkReference("user", s)
	})
	seen := map[string]bool{}
	for i, name := range names {
		if seen[name] {
			return nil, itemError{i, fmt.Errorf("%q is named twice", name)}
		}
		seen[name] = true
	}
	return names, err
}

// parseTargets reads what a forward leads to.
func parseTargets(list Strings) ([]forward.Target, error) {
	if len(list) == 0 {
		return nil, errors.New("a forward needs to know where it leads")
	}
	targets := make([]forward.Target, len(list))
	for i, s := range list {
		if word := headMeant(s); word != "" {
			return nil, itemError{i, withHint{
				fmt.Errorf("%q is neither a proxy nor likely to be a host", s),
				fmt.Sprintf("write %q for a proxy; for a host of that name write its port too, such as %q", word, s+":80"),
			}}
		}
		var err error
		if targets[i], err = forward.ParseTarget(s); err != nil {
			return nil, itemError{i, err}
		}
	}
	return targets, nil
}

// headMeant is the head that a word was meant for which is not written so, or "".
func headMeant(word string) string {
	lower := strings.ToLower(word)
	switch lower {
	case "socks4", "socks4a", "socks5", "socks5h":
		return "socks"
	case "socks", "http", "proxy":
		if lower != word {
			return lower
		}
	}
	return ""
}
