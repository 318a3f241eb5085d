package sshconfig

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// cases are files that we and OpenSSH must read the same way. A line "# ask: host -o …" is what is asked of the file; DIR is
// its directory.
var cases = map[string]string{
	"empty":        "# ask: web\n",
	"first wins":   "# ask: web\n# ask: db\nHost web\n Port 2201\nHost *\n Port 2202\n User fallback\nHost web\n Port 2203\n User late\n",
	"patterns":     "# ask: a.example.com\n# ask: b.example.com\n# ask: x1\n# ask: x12\nHost *.example.com !b.example.com\n Port 1\nHost x?\n Port 2\nHost !x1 *\n Port 3\n",
	"only no":      "# ask: a\n# ask: b\nHost !a\n Port 3\n",
	"case":         "# ask: WEB\n# ask: web\nHost web\n Port 4\nHost WEB\n port 5\nhOST *\n PORT 6\n",
	"equals":       "# ask: a\nPort=2222\nUser = me\nHostname= x.%h\nIdentityFile =~/.ssh/k\n\"ServerAliveInterval\" 5\n",
	"quotes":       "# ask: a\nUser \"two words\"\nIdentityFile \"~/a b\"\nIdentityFile '~/c d'\nIdentityFile ~/e\\ f\nSetEnv A=\"x y\" 'B=1 \"2\"' C=\\\"q\n",
	"comments":     "# ask: a\n  # indented\n\nPort 22 # after\nUser x#y\nIdentityFile \"a # b\"\n",
	"crlf":         "# ask: a\r\nPort 2222\r\nUser me  \t\r\n",
	"many":         "# ask: a\nIdentityFile one\nIdentityFile two\nIdentityFile one\nCertificateFile c1\nCertificateFile c2\nUserKnownHostsFile k1 k2\nUserKnownHostsFile k3\nGlobalKnownHostsFile none\n",
	"none":         "# ask: a\nIdentityFile none\nUserKnownHostsFile none\nProxyCommand none\nProxyJump x\nRemoteCommand none\n",
	"jump":         "# ask: a\nProxyJump me@x:33,ssh://y:44,[::1]:55,z\nProxyCommand nc %h\n",
	"jump none":    "# ask: a\nProxyJump none\nProxyJump x\n",
	"command":      "# ask: a\nProxyCommand=ssh -W '[%h]:%p' \"bastion\" # not a comment\nProxyJump x\nRemoteCommand echo \"%r@%n\" %p %i %d %u %%\n",
	"forwards":     "# ask: a\nLocalForward 8000 h:80\nLocalForward 127.0.0.1:8001 [2001:db8::1]:81\nLocalForward [::1]:8002 h:82\nLocalForward *:8003 h:83\nLocalForward :8004 h:84\nRemoteForward 9000 h:90\nRemoteForward 0 h:91\nRemoteForward *:9002 /run/%u.sock\nRemoteForward /r.sock /l.sock\nRemoteForward /r2.sock h:93\nRemoteForward 1080\nRemoteForward [::]:1081\nDynamicForward 1082\nDynamicForward *:1083\nDynamicForward localhost:1084\nLocalForward 8000 h:80\nLocalForward ssh h:http\n",
	"clear":        "# ask: a\nLocalForward 8000 h:80\nClearAllForwardings yes\n",
	"env":          "# ask: a\nSendEnv LANG LC_* X\nSendEnv -X\nSendEnv Y\nSetEnv A=1 B=2\nSetEnv C=3\n",
	"times":        "# ask: a\nServerAliveInterval 1m30\nConnectTimeout 1h2m3s\nServerAliveCountMax 7\nConnectionAttempts 4\n",
	"time zero":    "# ask: a\nServerAliveInterval 0\nConnectTimeout none\n",
	"strict":       "# ask: a\n# ask: b\n# ask: c\n# ask: d\nHost a\nStrictHostKeyChecking accept-new\nHost b\nStrictHostKeyChecking off\nHost c\nStrictHostKeyChecking YES\nHost d\nStrictHostKeyChecking ask\n",
	"flags":        "# ask: a\nIdentitiesOnly yes\nGatewayPorts true\nExitOnForwardFailure yes\nHashKnownHosts yes\nBatchMode yes\nServerAliveInterval 9\nPasswordAuthentication no\nPubkeyAuthentication no\nChallengeResponseAuthentication no\nTCPKeepAlive no\nStdinNull yes\nStreamLocalBindUnlink yes\nStreamLocalBindMask 0111\nRequestTTY force\nSessionType none\nEscapeChar ^B\nForwardAgent yes\nLogLevel debug1\nAddressFamily inet6\nBindAddress 127.0.0.1\nPreferredAuthentications publickey,password\nNumberOfPasswordPrompts 1\nHostKeyAlias ALIAS\nRevokedHostKeys /r\nIdentityAgent /a/%h/%k\n",
	"tty":          "# ask: a\nRequestTTY yes\nPubkeyAuthentication unbound\nEscapeChar none\n",
	"algorithms":   "# ask: a\nCiphers aes128-ctr,aes256-ctr\nMACs hmac-sha2-256\nKexAlgorithms curve25519-sha256\nHostKeyAlgorithms ssh-ed25519\nPubkeyAcceptedKeyTypes ssh-ed25519\n",
	"tokens":       "# ask: WEB -l them -p 2222\nHostname %h.Example.COM\nHostKeyAlias Alias\nUserKnownHostsFile /k/%C/%h/%n/%p/%r/%k ~/%u/%i/%L/%l ${HOME}/x/%%\nIdentityAgent %d/a\n",
	"match":        "# ask: web\n# ask: web -l root2\n# ask: db\nMatch host web user root2\n Port 11\nMatch originalhost db,!web\n Port 12\n Hostname real\nMatch host real\n User him\nMatch user him\n IdentityFile h\nMatch !host web\n ServerAliveInterval 13\nMatch all\n ConnectTimeout 14\n",
	"match lists":  "# ask: a1\n# ask: a2\n# ask: B\nMatch host a*,!a2\n Port 21\nMatch host b\n Port 22\nMatch originalhost \"B\"\n User x\nMatch localuser nobody-at-all\n User y\n",
	"match exec":   "# ask: yes\n# ask: no\nMatch exec \"test %n = yes\"\n Port 31\nMatch !exec \"test %h = yes\" host no\n Port 32\n",
	"final":        "# ask: web\n# ask: x\nHost web\n Hostname web.example.com\nMatch final host *.example.com\n Port 41\nHost *.example.com\n User second\nMatch canonical\n ServerAliveInterval 42\nMatch final all\n ConnectTimeout 43\nMatch !final\n IdentityFile first\n",
	"include":      "# ask: web\n# ask: db\nHost web\n Include DIR/inc*\nHost *\n Port 51\n Include DIR/other\n User after\n",
	"overrides":    "# ask: web -o Port=61 -o port=62 -o 'LocalForward=63 h:63' -o IdentityFile=cli -o 'User two' -o 'SetEnv A=1 B=2'\nPort 64\nIdentityFile file\nLocalForward 65 h:65\nUser one\nSetEnv C=3\n",
	"unknown":      "# ask: a\nIgnoreUnknown Foo*,bar\nFooBar 1 2 3\nBar x\nPort 71\n",
	"not honoured": "# ask: a\nCompression yes\nControlMaster auto\nControlPath ~/.ssh/%C\nControlPersist 10m\nGSSAPIAuthentication yes\nForwardX11 no\nTunnel no\nPort 72\n",
	"user in two":  "# ask: them@web\nHost web\nUser other\nMatch user them\nPort 73\n",
	"no newline":   "# ask: a\nHost a\nPort 74",
	"ipv6":         "# ask: ::1\n# ask: FE80::1\nHost ::1\nPort 75\n",
	"star":         "# ask: aXbXc\nHost a*b*c\nPort 76\nHost a**c\nUser x\n",
}

var extraFiles = map[string]string{
	"inc1":  "Port 52\nHost db\nUser indb\nHost *\nServerAliveInterval 53\n",
	"inc2":  "Match host web\nConnectTimeout 54\n",
	"other": "IdentityFile other\nHost nothing\nPort 55\n",
}

// TestLikeOpenSSH compares what we make of each file with what the real program says.
func TestLikeOpenSSH(t *testing.T) {
	ssh, err := exec.LookPath("ssh")
	if err != nil {
		if os.Getenv("FAIRLEAD_NETNS") == "require" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	dir := t.TempDir()
	for name, text := range extraFiles {
		write(t, filepath.Join(dir, name), text)
	}
	asked := 0
	for name, text := range cases {
		file := filepath.Join(dir, "config-"+strings.ReplaceAll(name, " ", "-"))
		write(t, file, strings.ReplaceAll(text, "DIR", dir))
		for line := range strings.Lines(text) {
			question, ok := strings.CutPrefix(line, "# ask: ")
			if !ok {
				continue
			}
			asked++
			args, err := splitArgs(strings.TrimSpace(question))
			if err != nil {
				t.Fatal(err)
			}
			t.Run(name+"/"+strings.TrimSpace(question), func(t *testing.T) { compare(t, ssh, file, args) })
		}
	}
	if asked < 40 {
		t.Errorf("only %d questions were asked", asked)
	}
}

func compare(t *testing.T, ssh, file string, args []string) {
	o := LookupOptions{Config: file, Exec: func(command string) bool { return exec.Command("sh", "-c", command).Run() == nil }}
	d, err := ParseTarget(args[0])
	if err != nil {
		t.Fatal(err)
	}
	o.User = d.User
	for i := 1; i+1 < len(args); i += 2 {
		switch args[i] {
		case "-l":
			o.User = args[i+1]
		case "-p":
			o.Overrides = append(o.Overrides, "Port="+args[i+1])
		case "-o":
			o.Overrides = append(o.Overrides, args[i+1])
		}
	}
	h, _, err := Lookup(d.Host, o)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(ssh, append([]string{"-G", "-F", file}, args...)...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("ssh -G: %v\n%s", err, &stderr)
	}
	theirs := normal(strings.Split(string(out), "\n"), h)
	ours := normal(h.Dump(), h)
	for _, line := range ours {
		if !slices.Contains(theirs, line) {
			t.Errorf("we say %q, and OpenSSH does not", line)
		}
	}
	for _, line := range theirs {
		if !slices.Contains(ours, line) {
			t.Errorf("OpenSSH says %q, and we do not", line)
		}
	}
}

// normal keeps the lines that are to agree.
func normal(lines []string, h *Host) []string {
	var kept []string
	for _, line := range lines {
		keyword, value, _ := strings.Cut(line, " ")
		k := kindOf(keyword)
		if keyword == "host" {
			k = single
		}
		switch {
		case k == unknown || k == noted || k == quiet || k == ignoreLine || keyword == "canonicalizehostname":
			continue
		case strings.HasSuffix(keyword, "algorithms") || keyword == "ciphers" || keyword == "macs":
			if !h.Said(keyword) {
				continue
			}
		case keyword == "identityfile" && !h.Said(keyword):
			continue // the usual names differ from release to release
		case keyword == "userknownhostsfile" || keyword == "globalknownhostsfile":
			if !h.Said(keyword) {
				continue
			}
		case keyword == "dynamicforward" && strings.HasPrefix(value, "/"):
			continue // OpenSSH 9.2 lists a local forward from a socket here, too
		}
		kept = append(kept, line)
	}
	return kept
}

func write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
