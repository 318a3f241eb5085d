package sshconfig

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
)

// fake is a machine whose files are a map.
func fake(files map[string]string) *Machine {
	return &Machine{
		User: "me", Home: "/home/me", Hostname: "here.example.com", UID: 1000,
		ReadFile: func(path string, _ bool) ([]byte, error) {
			text, ok := files[path]
			if !ok {
				return nil, &fs.PathError{Op: "open", Path: path, Err: fs.ErrNotExist}
			}
			return []byte(text), nil
		},
		Glob: func(pattern string) ([]string, error) {
			var list []string
			for name := range files {
				if ok, err := filepath.Match(pattern, name); err != nil {
					return nil, err
				} else if ok {
					list = append(list, name)
				}
			}
			slices.Sort(list)
			return list, nil
		},
		Getenv: func(name string) (string, bool) {
			value, ok := map[string]string{"DIR": "/env", "SOCK": "/run/agent"}[name]
			return value, ok
		},
		Addrs: func() []netip.Addr { return []netip.Addr{netip.MustParseAddr("192.0.2.7")} },
	}
}

func lookup(t *testing.T, host, text string) (*Host, []Ignored) {
	t.Helper()
	h, ignored, err := Lookup(host, LookupOptions{Machine: fake(map[string]string{"/home/me/.ssh/config": text})})
	if err != nil {
		t.Fatal(err)
	}
	return h, ignored
}

func TestFilesInTheirOrder(t *testing.T) {
	files := map[string]string{
		"/home/me/.ssh/config":   "Include conf.d/* ${DIR}/x\nPort 1\nIdentityFile ~/user\n",
		"/home/me/.ssh/conf.d/a": "User a\n",
		"/home/me/.ssh/conf.d/b": "User b\nConnectTimeout 3\n",
		"/env/x":                 "ServerAliveInterval 4\n",
		"/etc/ssh/ssh_config":    "Port 2\nIdentityFile /system\nInclude more\n",
		"/etc/ssh/more":          "StrictHostKeyChecking yes\n",
	}
	h, _, err := Lookup("x", LookupOptions{Machine: fake(files)})
	if err != nil {
		t.Fatal(err)
	}
	got := fmt.Sprintf("%v %v %v %v %v %v", h.Port, h.User, h.ConnectTimeout, h.ServerAliveInterval, h.Identities, h.StrictHostKeyChecking)
	if want := "1 a 3s 4s [/home/me/user /system] true"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if h, _, err = Lookup("x", LookupOptions{Machine: fake(files), Config: "none"}); err != nil || h.Port != 22 {
		t.Errorf("with none: %v, %v", h, err)
	}
	if _, _, err = Lookup("x", LookupOptions{Machine: fake(files), Config: "/missing"}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a file that was named and is not there: %v", err)
	}
	if h, _, err = Lookup("x", LookupOptions{Machine: fake(nil)}); err != nil || h.Said("port") || len(h.Identities) != 5 {
		t.Errorf("without files: %v, %v", h, err)
	}
}

func TestWhatIsNotKnownIsNoted(t *testing.T) {
	h, ignored := lookup(t, "web", `Host web
  Frobnicate "unclosed
  Compression yes
  Port 7
Host db
  AlsoUnknown 1
Match weather=rainy
  Port 8
Match exec "rm -rf /"
  Port 9
Match host web version 1
  User never
Match all
  IdentityFile ${MISSING}/key
  IdentityFile %Z
  IdentityFile ok
  ForwardAgent $SOCK
`)
	if h.Port != 7 || h.User != "me" || !slices.Equal(h.Identities, []string{"ok"}) || h.ForwardAgent != "/run/agent" {
		t.Errorf("got %+v", h)
	}
	var lines []string
	for _, i := range ignored {
		lines = append(lines, fmt.Sprint(i.Line, " ", i.Keyword))
		if i.File != "/home/me/.ssh/config" || i.Why == "" || !strings.Contains(i.String(), "is ignored") {
			t.Errorf("%+v", i)
		}
	}
	want := []string{"2 Frobnicate", "3 Compression", "7 Match weather", "9 Match exec", "11 Match version", "14 IdentityFile", "15 IdentityFile"}
	if !slices.Equal(lines, want) {
		t.Errorf("noted %q, want %q", lines, want)
	}
}

func TestMatchOfNewerReleases(t *testing.T) {
	h, _ := lookup(t, "web", "Tag blue\nMatch tagged blue,green\n Port 5\nMatch localnetwork 192.0.2.0/24\n User net\nMatch !localnetwork 198.51.100.0/24,192.0.2.1\n ConnectTimeout 6\nMatch originalhost=web\n BatchMode yes\n")
	if got := fmt.Sprintf("%v %v %v %v", h.Port, h.User, h.ConnectTimeout, h.BatchMode); got != "5 net 6s true" {
		t.Error(got)
	}
}

func TestRefused(t *testing.T) {
	for text, want := range map[string]string{
		"Port abc":                      "/home/me/.ssh/config:1: Port: \"abc\" is no port",
		"Port 0":                        "port 0",
		"Port":                          "no argument",
		"Port 1 2":                      "one word too many",
		"User \"a":                      "quote",
		"\nUser -oProxyCommand=x":       "no user name",
		"Hostname a;b":                  "no host name",
		"Hostname %p":                   "%p is no token",
		"Match":                         "Match: there is no argument",
		"Match host":                    "Match host",
		"Match host a user b all":       "stands alone",
		"Match localnetwork x":          "no network",
		"StrictHostKeyChecking perhaps": "none of",
		"LocalForward 80":               "no forwarding",
		"LocalForward 0 h:1":            "port 0",
		"RemoteForward h":               "no port",
		"DynamicForward 1:2:3":          "a proxy has",
		"ConnectTimeout 5x":             "no time",
		"ServerAliveInterval 9999999w":  "too long",
		"StreamLocalBindMask 9":         "no mask",
		"SetEnv A":                      "NAME=value",
		"SendEnv A=b":                   "no name of a variable",
		"EscapeChar abc":                "no character",
		"ProxyJump a b":                 "one word too many",
		"ProxyJump a:b":                 "no port",
		"UserKnownHostsFile none x":     "stands alone",
		"ProxyCommand x %C":             "%C is no token",
		"Include ":                      "no argument",
		"Include conf":                  "deeper than",
		"IdentityFile a\nHost \"\"":     "empty",
		"ConnectionAttempts 0":          "no number",
		"LocalForward 1 " + strings.Repeat("/", 200): "too long",
	} {
		m := fake(map[string]string{"/home/me/.ssh/config": text, "/home/me/.ssh/conf": "Include conf\n"})
		_, _, err := Lookup("web", LookupOptions{Machine: m})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
	for _, override := range []string{"Frob=1", "Host x", "Match all", "Include x", "Port"} {
		var at *Error
		if _, _, err := Lookup("web", LookupOptions{Machine: fake(nil), Overrides: []string{override}}); !errors.As(err, &at) || at.File != commandLine {
			t.Errorf("-o %s: %v", override, err)
		}
	}
	for _, host := range []string{"", "-x", "a b", "$(x)", "a\nb", "a;b"} {
		if _, _, err := Lookup(host, LookupOptions{Machine: fake(nil)}); err == nil {
			t.Errorf("the host %q was taken", host)
		}
	}
}

func TestIncludesAreBounded(t *testing.T) {
	files := map[string]string{"/home/me/.ssh/config": "Include b*\n"}
	for i := range 10 {
		files[fmt.Sprintf("/home/me/.ssh/b%d", i)] = "Match all\nInclude b*\n"
	}
	if _, _, err := Lookup("x", LookupOptions{Machine: fake(files)}); err == nil {
		t.Error("files that include each other were read to the end")
	}
	if _, _, err := Lookup("x", LookupOptions{Machine: fake(map[string]string{"/home/me/.ssh/config": strings.Repeat("#", maxFile+1)})}); err == nil {
		t.Error("a huge file was read")
	}
}

func TestFilesOfOthersAreRefused(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("there are no such permissions here")
	}
	m := ThisMachine()
	m.UserFile = filepath.Join(t.TempDir(), "config")
	m.SystemFile = m.UserFile + "-system"
	write(t, m.UserFile, "Port 5\n")
	if h, _, err := Lookup("x", LookupOptions{Machine: m}); err != nil || h.Port != 5 {
		t.Errorf("%v, %v", h, err)
	}
	if err := os.Chmod(m.UserFile, 0o622); err != nil {
		t.Fatal(err)
	}
	if _, _, err := Lookup("x", LookupOptions{Machine: m}); err == nil || !strings.Contains(err.Error(), "chmod") {
		t.Errorf("a file that everybody can write: %v", err)
	}
}

func TestAssemble(t *testing.T) {
	defaults, all := []string{"a1", "a2", "b1"}, []string{"a1", "a2", "b1", "c1", "c2"}
	for text, want := range map[string]string{
		"": "a1 a2 b1", "c1,a1": "c1 a1", "+c1,a1": "a1 a2 b1 c1", "-a*": "b1", "^c*,b1": "c1 c2 b1 a1 a2", "x": "", "+x": "a1 a2 b1", "-x": "a1 a2 b1",
	} {
		if got := strings.Join(Assemble(text, defaults, all), " "); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}

func TestDestinations(t *testing.T) {
	for s, want := range map[string]string{
		"h": "{ h 0}", "u@h": "{u h 0}", "u@h:22": "{u h 22}", "[::1]:5": "{ ::1 5}", "ssh://u@h": "{u h 0}", "SSH://h:7/": "{ h 7}",
		"ssh://a%20b@[fe80::1%25eth0]:1": "", "a@b@h": "{a@b h 0}", "::1": "", "h:": "", "h:0": "", "@h": "", "": "", "u@": "", "-h": "", "h:70000": "",
	} {
		d, err := ParseDestination(s)
		if got := fmt.Sprint(d); err == nil && got != want && want != "" || (err != nil) != (want == "") && s != "ssh://a%20b@[fe80::1%25eth0]:1" {
			t.Errorf("%q: %v, %v, want %q", s, d, err, want)
		}
	}
	for s, want := range map[string]string{"u@::1": "{u ::1 0}", "h:22": "{ h:22 0}", "[::1]": "{ ::1 0}", "ssh://h:2": "{ h 2}", "a@b@h": "{a@b h 0}"} {
		if d, err := ParseTarget(s); err != nil || fmt.Sprint(d) != want {
			t.Errorf("%q: %v, %v, want %s", s, d, err, want)
		}
	}
}

func FuzzLookup(f *testing.F) {
	for _, text := range cases {
		f.Add("web", text, "Port=1")
	}
	f.Add("x", "Include a* b\nMatch final host \"*\" exec x\nLocalForward [::]:1 [", "User=%h")
	f.Fuzz(func(t *testing.T, host, text, override string) {
		m := fake(map[string]string{"/home/me/.ssh/config": text, "/home/me/.ssh/a": text, "/home/me/.ssh/b": "Host *\n"})
		m.Service = func(string) (uint16, bool) { return 0, false }
		h, _, err := Lookup(host, LookupOptions{Machine: m, Overrides: []string{override}, Exec: func(string) bool { return true }})
		if err == nil && (h.Port == 0 || h.Hostname == "" || h.User == "" || len(h.Dump()) < 10) {
			t.Errorf("half a host: %+v", h)
		}
	})
}
