package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/fairlead-net/fairlead/node/sshnode/sshconfig"
)

// sshOptions are the letters of ssh(1), with a colon after those that take an argument, as getopt(3) has them.
const sshOptions = "1246ab:c:e:fgi:kl:m:no:p:qstvxAB:CD:E:F:GI:J:KL:MNO:P:Q:R:S:TVw:W:XYy"

// sshArgs is a command line of ssh(1).
type sshArgs struct {
	host, user string   // user is "" when neither -l nor the destination says one
	overrides  []string // of ssh_config(5), in the order in which they win
	config     string   // -F
	forwards   []sshForward
	stdio      *sshconfig.End // -W
	command    string
	query      string // -Q
	logFile    string // -E
	bindTo     string // -B, an interface
	verbose    int
	print      bool // -G
	version    bool
	help       bool
	notes      []string // what was asked for and changes nothing
}

// An sshForward is a forwarding of the command line with the side that it listens at.
type sshForward struct {
	side sshconfig.Side
	sshconfig.Forward
}

// refusedSSH are options that OpenSSH has and we do not, and what to use.
var refusedSSH = map[byte]string{
	'1': "version 1 of the protocol is long dead",
	'f': "it stays in the foreground; put & behind it, or have the daemon keep forwards up (fairlead up)",
	'I': "keys of PKCS#11 tokens come through the agent: ssh-add -s LIBRARY",
	'K': "GSSAPI is not spoken; use a key",
	'M': "connections are not shared between processes; the daemon's forwards share one (fairlead up)",
	'O': "connections are not shared between processes; fairlead status, add and rm steer the daemon's forwards",
	'w': "tun devices are not forwarded; for a whole network use a VPN such as WireGuard",
	'X': "X11 is not forwarded; ssh -X of OpenSSH does that",
	'Y': "X11 is not forwarded; ssh -Y of OpenSSH does that",
	'y': "nothing is written to syslog; -E FILE writes to a file",
}

// errSSHUsage is a command line without a destination.
var errSSHUsage = errors.New("the destination is missing")

// parseSSHArgs reads the arguments as OpenSSH's client does: options may also stand between the destination and the command.
// service finds the port of a service by its name.
func parseSSHArgs(args []string, service func(string) (uint16, bool)) (*sshArgs, error) {
	p := &sshParser{service: service, args: new(sshArgs)}
	rest, terminated, err := p.options(args)
	if err != nil || p.args.help {
		return p.args, err
	}
	if len(rest) > 0 {
		d, err := sshconfig.ParseTarget(rest[0])
		if err != nil {
			return nil, err
		}
		p.args.host = d.Host
		p.user(d.User)
		if d.Port != 0 {
			p.say("Port", fmt.Sprint(d.Port))
		}
		if rest = rest[1:]; !terminated {
			if rest, _, err = p.options(rest); err != nil || p.args.help {
				return p.args, err
			}
		}
		p.args.command = strings.Join(rest, " ")
	}
	return p.finish()
}

type sshParser struct {
	args      *sshArgs
	service   func(string) (uint16, bool)
	ttyWanted int // -t
	noTTY     bool
	sessions  string   // SessionType
	first     []string // overrides that win whatever -o says
}

// options reads options up to the first argument that is none, and reports whether "--" ended them.
func (p *sshParser) options(args []string) (rest []string, terminated bool, err error) {
	for len(args) > 0 {
		arg := args[0]
		switch {
		case arg == "--":
			return args[1:], true, nil
		case arg == "--help":
			p.args.help = true
			return nil, false, nil
		case len(arg) < 2 || arg[0] != '-':
			return args, false, nil
		}
		args = args[1:]
		for i := 1; i < len(arg); i++ {
			at := strings.IndexByte(sshOptions, arg[i])
			if at < 0 || arg[i] == ':' {
				return nil, false, fmt.Errorf("there is no option -%c", arg[i])
			}
			value := ""
			if at+1 < len(sshOptions) && sshOptions[at+1] == ':' {
				if value = arg[i+1:]; value == "" {
					if len(args) == 0 {
						return nil, false, fmt.Errorf("-%c needs an argument", arg[i])
					}
					value, args = args[0], args[1:]
				}
				if err := p.valued(arg[i], value); err != nil {
					return nil, false, err
				}
				break
			}
			if err := p.flag(arg[i]); err != nil {
				return nil, false, err
			}
		}
	}
	return nil, false, nil
}

// say adds an override.
func (p *sshParser) say(keyword, value string) {
	p.args.overrides = append(p.args.overrides, keyword+"="+quoteSSH(value))
}

// must adds one that no -o overrules.
func (p *sshParser) must(keyword, value string) { p.first = append(p.first, keyword+"="+value) }

// quoteSSH writes a value so that ssh_config(5) takes it as one argument.
func quoteSSH(s string) string {
	if s != "" && !strings.ContainsAny(s, " \t\"'\\#=") {
		return s
	}
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"`
}

func (p *sshParser) user(name string) {
	if p.args.user == "" {
		p.args.user = name
	}
}

func (p *sshParser) flag(c byte) error {
	a := p.args
	switch c {
	case '4':
		p.must("AddressFamily", "inet")
	case '6':
		p.must("AddressFamily", "inet6")
	case 'A':
		p.must("ForwardAgent", "yes")
	case 'a':
		p.must("ForwardAgent", "no")
	case 'C':
		a.notes = append(a.notes, "-C is ignored: the connection is not compressed")
	case 'G':
		a.print = true
	case 'g':
		p.must("GatewayPorts", "yes")
	case 'N':
		p.sessions = "none"
	case 'n':
		p.must("StdinNull", "yes")
	case 'q':
		p.must("LogLevel", "QUIET")
	case 's':
		p.sessions = "subsystem"
	case 'T':
		p.noTTY, p.ttyWanted = true, 0
	case 't':
		p.noTTY = false
		p.ttyWanted++
	case 'V':
		a.version = true
	case 'v':
		a.verbose++
	case '2', 'k', 'x': // what they ask for holds anyway
	default:
		return fmt.Errorf("-%c: %s", c, refusedSSH[c])
	}
	return nil
}

func (p *sshParser) valued(c byte, value string) error {
	a := p.args
	keywords := map[byte]string{
		'b': "BindAddress", 'c': "Ciphers", 'i': "IdentityFile", 'J': "ProxyJump", 'm': "MACs", 'p': "Port", 'e': "EscapeChar", 'P': "Tag",
	}
	sides := map[byte]sshconfig.Side{'L': sshconfig.Local, 'R': sshconfig.Remote, 'D': sshconfig.Dynamic}
	switch c {
	case 'B':
		a.bindTo = value
	case 'E':
		a.logFile = value
	case 'F':
		a.config = value
	case 'l':
		p.user(value)
	case 'o':
		a.overrides = append(a.overrides, value)
	case 'Q':
		a.query = value
	case 'L', 'R', 'D':
		f, err := sshconfig.ParseForward(value, sides[c], p.service)
		if err != nil {
			return fmt.Errorf("-%c %w", c, err)
		}
		a.forwards = append(a.forwards, sshForward{sides[c], f})
	case 'S':
		if value != "none" {
			return errors.New("-S: " + refusedSSH['M'])
		}
	case 'W':
		// The grammar of a listener, in which the bind address is the host: [host]:port or a socket.
		f, err := sshconfig.ParseForward(value, sshconfig.Dynamic, p.service)
		if err != nil || f.Listen.Path == "" && f.Listen.Host == "" {
			return fmt.Errorf("-W %.100q: write it like host:port", value)
		}
		a.stdio = &f.Listen
	default:
		if keyword, ok := keywords[c]; ok {
			p.say(keyword, value)
			return nil
		}
		return fmt.Errorf("-%c: %s", c, refusedSSH[c])
	}
	return nil
}

// finish settles what options say together.
func (p *sshParser) finish() (*sshArgs, error) {
	a := p.args
	if a.version || a.query != "" {
		return a, nil
	}
	if a.host == "" {
		return nil, errSSHUsage
	}
	switch {
	case p.noTTY:
		p.must("RequestTTY", "no")
	case p.ttyWanted > 1:
		p.must("RequestTTY", "force")
	case p.ttyWanted == 1:
		p.must("RequestTTY", "yes")
	}
	if a.stdio != nil {
		if a.command != "" || p.sessions != "" && p.sessions != "none" {
			return nil, errors.New("-W carries the standard input and output; it has no command")
		}
		p.sessions = "none"
	}
	if p.sessions != "" {
		p.must("SessionType", p.sessions)
	}
	if a.verbose > 0 && !slices.ContainsFunc(p.first, func(s string) bool { return strings.HasPrefix(s, "LogLevel=") }) {
		p.must("LogLevel", []string{"DEBUG", "DEBUG2", "DEBUG3"}[min(a.verbose, 3)-1])
	}
	slices.Reverse(p.first) // the last of a kind wins, as in OpenSSH
	a.overrides = append(p.first, a.overrides...)
	return a, nil
}
