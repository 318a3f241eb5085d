package main

import (
	"fmt"
	"strings"
	"testing"

	"github.com/fairlead-net/fairlead/node/sshnode/sshconfig"
)

func TestSSHArgs(t *testing.T) {
	for args, want := range map[string]string{
		"host":                           "host||",
		"me@host":                        "host|me|",
		"ssh://me@host:2200 true":        "host|me|Port=2200|true",
		"host ls -l /":                   "host|||ls -l /",
		"host -p 22 ls -l":               "host||Port=22|ls -l",
		"-p2222 host":                    "host||Port=2222",
		"-p 1 -p 2 host":                 "host||Port=1 Port=2",
		"-l a b@host -l c":               "host|a|",
		"b@host -l c":                    "host|b|",
		"-- host -p 22":                  "host|||-p 22",
		"host -- -p 22":                  "host|||-p 22",
		"host - x":                       "host|||- x",
		"-4A host":                       "host||ForwardAgent=yes AddressFamily=inet",
		"-aA -6 -4 host":                 "host||AddressFamily=inet AddressFamily=inet6 ForwardAgent=yes ForwardAgent=no",
		"-t -t host top":                 "host||RequestTTY=force|top",
		"-tT host":                       "host||RequestTTY=no",
		"-Tt host":                       "host||RequestTTY=yes",
		"-oPort=5 -o User=x host":        "host||Port=5 User=x",
		"-s host sftp":                   "host||SessionType=subsystem|sftp",
		"-i k -J a,b -c x -m y host":     "host||IdentityFile=k ProxyJump=a,b Ciphers=x MACs=y",
		"-vvv host":                      "host||LogLevel=DEBUG3",
		"-q -v host":                     "host||LogLevel=QUIET",
		"-kx2n host":                     "host||StdinNull=yes",
		"-S none host":                   "host||",
		"-P tag -e ^b host":              "host||Tag=tag EscapeChar=^b",
		"-NL8080:h:80 -D 1080 host":      "host||SessionType=none||L 8080:h:80;D 1080;",
		"-R 0:h:80 host -R 1080 -R:9:/s": "host||||R 0:h:80;R 1080;R :9:/s;",
		"-W [::1]:22 host":               "host||SessionType=none||-W [::1]:22",
		"-NW h:22 host":                  "host||SessionType=none||-W h:22",
		"-W /sock host":                  "host||SessionType=none||-W /sock",
	} {
		a, err := parseSSHArgs(strings.Fields(args), sshconfig.Service)
		if err != nil {
			t.Errorf("%s: %v", args, err)
			continue
		}
		got := a.host + "|" + a.user + "|" + strings.Join(a.overrides, " ")
		forwards := ""
		for _, f := range a.forwards {
			forwards += fmt.Sprintf("%c %s;", "LRD"[f.side], f)
		}
		if a.stdio != nil {
			forwards += "-W " + a.stdio.String()
		}
		if a.command != "" || forwards != "" {
			got += "|" + a.command
		}
		if forwards != "" {
			got += "|" + forwards
		}
		if got != want {
			t.Errorf("%s:\n got %s\nwant %s", args, got, want)
		}
	}
}

func TestSSHArgsRefused(t *testing.T) {
	for args, want := range map[string]string{
		"":                      "destination",
		"-N":                    "destination",
		"-z host":               "no option -z",
		"-: host":               "no option -:",
		"host -p":               "needs an argument",
		"-f host":               "&",
		"-X host":               "X11",
		"-M host":               "daemon",
		"-S /ctl host":          "daemon",
		"-O exit host":          "daemon",
		"-w 0 host":             "tun",
		"-I lib host":           "agent",
		"-L 80 host":            "no forwarding",
		"-L x:h:80 host":        "no port",
		"-D 1:2:3 host":         "no forwarding",
		"-W host host":          "host:port",
		"-W h:1 host true":      "no command",
		"-sW h:1 host":          "no command",
		"-l a -x":               "destination",
		"@host":                 "user",
		"-oProxyCommand=x -dad": "no option -d",
	} {
		if _, err := parseSSHArgs(strings.Fields(args), nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", args, err, want)
		}
	}
}

func TestQuoteSSH(t *testing.T) {
	for _, value := range []string{"", "plain", "two words", `a"b`, `c:\d`, "x=y", "#no", "'"} {
		a, err := parseSSHArgs([]string{"-i", value, "host"}, nil)
		if err != nil {
			t.Fatal(err)
		}
		h, _, err := sshconfig.Lookup(a.host, sshconfig.LookupOptions{Config: "none", Overrides: a.overrides})
		if value == "" {
			if err == nil {
				t.Error("-i with nothing was taken")
			}
			continue
		}
		if err != nil || len(h.Identities) != 1 || h.Identities[0] != value {
			t.Errorf("%q became %v, %v", value, h, err)
		}
	}
}

func FuzzParseSSHArgs(f *testing.F) {
	for _, args := range []string{"-p\x0022\x00host\x00ls", "-NL8080:h:80\x00u@h", "--\x00h\x00-p", "-tW\x00a:1\x00ssh://b:2/"} {
		f.Add(args)
	}
	f.Fuzz(func(t *testing.T, joined string) {
		a, err := parseSSHArgs(strings.Split(joined, "\x00"), nil)
		if err == nil && a.host == "" && !a.help && !a.version && a.query == "" {
			t.Errorf("%q has no host", joined)
		}
	})
}
