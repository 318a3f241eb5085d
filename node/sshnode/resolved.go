package sshnode

import (
	"cmp"
	"crypto/sha1"
	"fmt"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/fairlead-net/fairlead/node"
)

// Resolved is what ssh_config(5) says for one host, under the names that it has there. The zero value of a field is that
// nothing is said, and the usual default holds.
type Resolved struct {
	// Expanded says that ~ and tokens such as %h are filled in already; else that is done here.
	Expanded bool

	HostName  string
	Port      uint16
	User      string
	HostAlias string // HostKeyAlias

	IdentityFiles    []string
	IdentitiesOnly   bool
	KeyAlgorithms    []string // PubkeyAcceptedAlgorithms, as names that the protocol has
	CertificateFiles []string
	IdentityAgent    string   // a socket, "none", "SSH_AUTH_SOCK" or "$VARIABLE"
	Authentications  []string // PreferredAuthentications, without those that are switched off; others than ours are passed over
	BatchMode        bool     // nobody is asked
	PasswordPrompts  int      // NumberOfPasswordPrompts

	UserKnownHostsFiles   []string
	GlobalKnownHostsFiles []string
	StrictHostKeyChecking string // "ask" (the default), "yes", "accept-new"; "no" is taken as accept-new: keys that changed are never believed
	HashKnownHosts        bool
	RevokedHostKeys       string

	ProxyJump    []string // hops as ParseTarget has them, nearest first; "none" alone is none
	ProxyCommand string   // "none" is none

	ServerAliveInterval time.Duration
	ServerAliveCountMax int // how many of them may go unanswered, less one; 0 is 1
	ConnectTimeout      time.Duration
	BindAddress         string
	AddressFamily       string // "any", "inet", "inet6"

	// In order of preference. Names that are not known here are passed over; if none is left, connecting fails.
	Ciphers, KexAlgorithms, MACs, HostKeyAlgorithms []string
}

// What holds where nothing is said.
const (
	defaultKeepalive      = 15 * time.Second
	defaultConnectTimeout = 15 * time.Second
	passwordPrompts       = 3 // as NumberOfPasswordPrompts of ssh_config(5)
)

// settle lays what the Spec says over what ssh_config does, and the defaults below both.
func settle(q Query, s node.SSH, r Resolved) (Resolved, error) {
	me, home := whoami()
	var ours []*[]string // lists of paths that were not expanded by whoever resolved them
	r.HostName = cmp.Or(r.HostName, q.Host)
	if !r.Expanded {
		r.HostName = strings.NewReplacer("%%", "%", "%h", q.Host).Replace(r.HostName)
	}
	r.Port = cmp.Or(q.Port, r.Port, 22)
	r.User = cmp.Or(q.User, r.User, me)
	if r.User == "" {
		return r, &configError{fmt.Errorf("%s: no user is named, and the one of this process has no name: write user@host", q.Host)}
	}
	explicit := len(s.Identities) > 0 || len(r.IdentityFiles) > 0
	if len(s.Identities) > 0 {
		r.IdentityFiles = s.Identities
		ours = append(ours, &r.IdentityFiles)
	}
	if !explicit {
		r.IdentityFiles = usualIdentities(home)
		ours = append(ours, &r.IdentityFiles)
	}
	if len(s.KnownHosts) > 0 {
		r.UserKnownHostsFiles, r.GlobalKnownHostsFiles = s.KnownHosts, nil
		ours = append(ours, &r.UserKnownHostsFiles)
	} else {
		if len(r.UserKnownHostsFiles) == 0 && home != "" {
			r.UserKnownHostsFiles = []string{"~/.ssh/known_hosts", "~/.ssh/known_hosts2"}
			ours = append(ours, &r.UserKnownHostsFiles)
		}
		if len(r.GlobalKnownHostsFiles) == 0 {
			r.GlobalKnownHostsFiles = []string{"/etc/ssh/ssh_known_hosts", "/etc/ssh/ssh_known_hosts2"}
		}
	}
	if s.AcceptNew {
		r.StrictHostKeyChecking = "accept-new"
	}
	r.StrictHostKeyChecking = cmp.Or(r.StrictHostKeyChecking, "ask")
	r.IdentityAgent = cmp.Or(s.Agent, r.IdentityAgent, "SSH_AUTH_SOCK")
	r.ServerAliveInterval = cmp.Or(s.Keepalive, r.ServerAliveInterval, defaultKeepalive)
	r.ServerAliveCountMax = cmp.Or(r.ServerAliveCountMax, 1)
	r.ConnectTimeout = cmp.Or(r.ConnectTimeout, defaultConnectTimeout)
	r.PasswordPrompts = cmp.Or(r.PasswordPrompts, passwordPrompts)
	if isNone(r.ProxyJump...) {
		r.ProxyJump = nil
	}
	if isNone(r.ProxyCommand) {
		r.ProxyCommand = ""
	}

	r.expand(expander{q: q, r: &r, me: me, home: home}, s.Agent != "", ours)
	return r, nil
}

// expand fills in what is not filled in yet: what ours has, the agent if it is ours, and all the rest unless it is Expanded.
func (r *Resolved) expand(e expander, agent bool, ours []*[]string) {
	for _, list := range []*[]string{&r.IdentityFiles, &r.CertificateFiles, &r.UserKnownHostsFiles, &r.GlobalKnownHostsFiles} {
		*list = slices.DeleteFunc(slices.Clone(*list), func(path string) bool { return isNone(path) })
		if r.Expanded && !slices.Contains(ours, list) {
			continue
		}
		for i, path := range *list {
			(*list)[i] = e.path(path)
		}
	}
	if (!r.Expanded || agent) && r.IdentityAgent != "SSH_AUTH_SOCK" && !strings.HasPrefix(r.IdentityAgent, "$") {
		r.IdentityAgent = e.path(r.IdentityAgent)
	}
	if isNone(r.RevokedHostKeys) {
		r.RevokedHostKeys = ""
	}
	if !r.Expanded {
		r.RevokedHostKeys = e.path(r.RevokedHostKeys)
		r.HostAlias = e.tokens(r.HostAlias)
		r.ProxyCommand = e.tokens(r.ProxyCommand)
	}
}

func isNone(s ...string) bool { return len(s) == 1 && strings.EqualFold(s[0], "none") }

func usualIdentities(home string) []string {
	if home == "" {
		return nil
	}
	return []string{"~/.ssh/id_rsa", "~/.ssh/id_ecdsa", "~/.ssh/id_ecdsa_sk", "~/.ssh/id_ed25519", "~/.ssh/id_ed25519_sk"}
}

// whoami is the user of this process and where his files are; either may be "". HOME goes before the password file, as where
// ssh_config is looked for: keys and known hosts are beside it.
func whoami() (name, home string) {
	if u, err := user.Current(); err == nil {
		name, home = u.Username, u.HomeDir
	}
	if said, err := os.UserHomeDir(); err == nil {
		home = cmp.Or(said, home)
	}
	return name, home
}

// address is what the server is reached at.
func (r *Resolved) address() string { return net.JoinHostPort(r.HostName, strconv.Itoa(int(r.Port))) }

// An expander fills in what TOKENS of ssh_config(5) lists.
type expander struct {
	q        Query
	r        *Resolved
	me, home string
}

func (e expander) path(s string) string {
	if s == "~" || strings.HasPrefix(s, "~/") {
		s = filepath.Join(e.home, s[1:])
	}
	return e.tokens(os.Expand(s, func(name string) string {
		if strings.Contains(s, "${"+name+"}") { // $NAME without braces is not expanded there
			return os.Getenv(name)
		}
		return "$" + name
	}))
}

func (e expander) tokens(s string) string {
	if !strings.Contains(s, "%") {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '%' || i+1 == len(s) {
			b.WriteByte(s[i])
			continue
		}
		i++
		b.WriteString(e.token(s[i]))
	}
	return b.String()
}

func (e expander) token(c byte) string {
	hostname, _ := os.Hostname()
	short, _, _ := strings.Cut(hostname, ".")
	port := strconv.Itoa(int(e.r.Port))
	switch c {
	case '%':
		return "%"
	case 'h':
		return e.r.HostName
	case 'n':
		return e.q.Host
	case 'k':
		return cmp.Or(e.r.HostAlias, e.r.HostName)
	case 'p':
		return port
	case 'r':
		return e.r.User
	case 'u':
		return e.me
	case 'd':
		return e.home
	case 'i':
		return strconv.Itoa(os.Getuid())
	case 'l':
		return hostname
	case 'L':
		return short
	case 'j':
		return strings.Join(e.r.ProxyJump, ",")
	case 'C':
		sum := sha1.Sum([]byte(hostname + e.r.HostName + port + e.r.User + strings.Join(e.r.ProxyJump, ",")))
		return fmt.Sprintf("%x", sum)
	}
	return "%" + string(c)
}
