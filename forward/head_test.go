package forward_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/fairlead-net/fairlead/forward"
)

func TestParseHead(t *testing.T) {
	for word, head := range map[string]forward.Head{"socks": forward.HeadSocks, "http": forward.HeadHTTP, "proxy": forward.HeadProxy} {
		target, err := forward.ParseTarget(word)
		if err != nil || target != (forward.Target{Head: head}) || target.String() != word || target.IsLocal() || target.IsUnix() {
			t.Errorf("%s: %+v, %v", word, target, err)
		}
		f := newForward(t, "a", "1080", word)
		if f.Dynamic() != head || f.Validate() != nil || !strings.Contains(f.NeedsRelay(), "each client") {
			t.Errorf("%s: head %v, %v, %q", word, f.Dynamic(), f.Validate(), f.NeedsRelay())
		}
	}
	for _, word := range []string{"", "socks:80", "proxy.example", "http:80"} {
		if target, _ := forward.ParseTarget(word); target.Head != forward.HeadNone {
			t.Errorf("%q is a head", word)
		}
	}
	if (&forward.Forward{}).Dynamic() != forward.HeadNone {
		t.Error("a forward without a target is dynamic")
	}
}

func TestNeedsLogin(t *testing.T) {
	for listen, want := range map[string]bool{
		"127.0.0.1:1080": false, "[::1]:1080": false, "unix:/a": false, "127.0.0.2:1080": false,
		"1080": true, "0.0.0.0:1080": true, "[::]:1080": true, "192.0.2.1:1080": true,
	} {
		f := newForward(t, "a", listen, "socks")
		if f.NeedsLogin() != want {
			t.Errorf("%s: %v", listen, !want)
		}
		if f.Users = []string{"anna"}; !f.NeedsLogin() {
			t.Errorf("%s: users are named and nobody has to log in", listen)
		}
	}
}

func TestValidateDynamic(t *testing.T) {
	type edit = func(f *forward.Forward)
	everything := func(f *forward.Forward) {
		f.Users, f.Policy = []string{"anna"}, forward.Policy{Permit: rules(t, "*"), Deny: rules(t, "a.example")}
		f.PAC = forward.PAC{Serve: true, Direct: rules(t, "*.lan"), Through: rules(t, "*")}
	}
	for _, test := range []struct {
		name, listen string
		to           []string
		edit         edit
		fields       string // of the errors; "" is valid
	}{
		{"everything", "1080", []string{"proxy"}, everything, ""},
		{"at and via nodes", "127.0.0.1:1080", []string{"socks"}, func(f *forward.Forward) { f.At, f.Via = "a", "b" }, ""},
		{"limits", "1080", []string{"socks"}, func(f *forward.Forward) { f.MaxPerSource, f.AcceptProxy = 5, prefixes("10.0.0.0/8") }, ""},
		{"keys of a proxy", "80", []string{"h"}, everything, "deny direct pac permit through users"},
		{"beside a target", "1080", []string{"h", "socks"}, nil, "to"},
		{"before a target", "1080", []string{"socks", "h"}, nil, "to"},
		{"two", "1080", []string{"socks", "http"}, nil, "to"},
		{"udp", "tcp+udp/1080", []string{"socks"}, nil, "listen"},
		{"every port", "*", []string{"socks"}, nil, "listen"},
		{"keys of a target", "1080", []string{"socks"}, func(f *forward.Forward) {
			f.SendProxy, f.Check.Kind, f.FastOpen, f.Drain = 1, forward.CheckConnect, true, f.To
		}, "check drain fast_open send_proxy"},
		{"wake", "1080", []string{"socks"}, func(f *forward.Forward) { f.Wake.MACs = []forward.MAC{{2}} }, "wake"},
		{"keep", "1080", []string{"socks"}, func(f *forward.Forward) { f.Source = forward.SourceKeep }, "source"},
		{"kernel", "1080", []string{"socks"}, func(f *forward.Forward) { f.Carry = forward.CarryKernel }, "carry"},
		{"rules without a file", "1080", []string{"http"}, func(f *forward.Forward) { f.PAC.Direct = rules(t, "*.lan") }, "pac"},
		{"a file on a unix socket", "unix:/a", []string{"http"}, func(f *forward.Forward) { f.PAC.Serve = true }, "pac"},
	} {
		f := newForward(t, "a", test.listen, test.to...)
		if test.edit != nil {
			test.edit(f)
		}
		if got := fieldsOf(t, f.Validate()); got != test.fields {
			t.Errorf("%s: errors about %q, want %q: %v", test.name, got, test.fields, f.Validate())
		}
	}
}

// TestPasswordHashHides: a hash is shown by Reveal alone.
func TestPasswordHashHides(t *testing.T) {
	user := forward.User{Name: "anna", Password: "$2b$hunter2"}
	if inJSON, err := json.Marshal(user); err != nil || strings.Contains(string(inJSON), "hunter2") {
		t.Errorf("JSON shows it: %s (%v)", inJSON, err)
	}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		for _, text := range []string{fmt.Sprintf(verb, user), fmt.Sprintf(verb, user.Password), fmt.Sprintf(verb, []forward.User{user})} {
			if strings.Contains(text, "hunter2") || strings.Contains(text, fmt.Sprintf("%x", "hunter2")) {
				t.Errorf("%s shows it: %s", verb, text)
			}
		}
	}
	if user.Password.Reveal() != "$2b$hunter2" || !user.Equal(user) || user.Equal(forward.User{Name: "anna"}) {
		t.Error("the hash is not what it was")
	}
}
