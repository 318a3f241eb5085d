package sshconfig

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// A kind is how the arguments of a keyword are read, and what a second line of it does.
type kind uint8

const (
	unknown kind = iota
	single       // one argument; the first line wins
	listed       // arguments; the first line wins
	rest         // the rest of the line as it is; the first line wins
	adding       // one argument; lines add up
	pair         // LocalForward and RemoteForward; lines add up
	sendEnv
	setEnv
	noted // known, and not honoured
	quiet // known, not honoured, and nobody would miss it
	hostLine
	matchLine
	includeLine
	ignoreLine
)

// kinds has the keywords that are honoured, in lower case.
func kindOf(keyword string) kind {
	switch keyword {
	case "hostname", "port", "user", "identitiesonly", "identityagent", "proxyjump", "stricthostkeychecking", "hostkeyalias",
		"hashknownhosts", "revokedhostkeys", "serveraliveinterval", "serveralivecountmax", "connecttimeout", "connectionattempts",
		"addressfamily", "bindaddress", "bindinterface", "ciphers", "kexalgorithms", "macs", "hostkeyalgorithms",
		"pubkeyacceptedalgorithms", "gatewayports", "exitonforwardfailure", "clearallforwardings", "requesttty", "sessiontype",
		"stdinnull", "loglevel", "preferredauthentications", "passwordauthentication", "pubkeyauthentication",
		"kbdinteractiveauthentication", "tcpkeepalive", "forwardagent", "streamlocalbindunlink", "streamlocalbindmask", "escapechar",
		"batchmode", "numberofpasswordprompts", "tag", "canonicalizehostname":
		return single
	case "userknownhostsfile", "globalknownhostsfile":
		return listed
	case "proxycommand", "remotecommand":
		return rest
	case "identityfile", "certificatefile", "dynamicforward":
		return adding
	case "localforward", "remoteforward":
		return pair
	case "sendenv":
		return sendEnv
	case "setenv":
		return setEnv
	case "host":
		return hostLine
	case "match":
		return matchLine
	case "include":
		return includeLine
	case "ignoreunknown":
		return ignoreLine
	case "checkhostip", "visualhostkey", "addressfamilies", "ipqos", "fingerprinthash", "rekeylimit", "syslogfacility", "updatehostkeys",
		"controlpath", "xauthlocation", "useprivilegedport", "protocol", "proxyusefdpass", "canonicalizefallbacklocal",
		"canonicalizemaxdots", "canonicaldomains", "canonicalizepermittedcnames", "forwardx11timeout", "warnweakcrypto",
		"logverbose", "enableescapecommandline", "enablesshkeysign", "channeltimeout", "obscurekeystroketiming", "versionaddendum":
		return quiet
	}
	if _, ok := reasons[keyword]; ok {
		return noted
	}
	return unknown
}

// reasons are keywords of OpenSSH that are not honoured.
var reasons = map[string]string{
	"addkeystoagent":                   "keys are not handed to the agent",
	"casignaturealgorithms":            "certificates are taken with the usual signatures",
	"compression":                      "the connection is not compressed",
	"controlmaster":                    "connections are not shared between processes; the daemon shares its own",
	"controlpersist":                   "connections are not shared between processes; the daemon shares its own",
	"forkafterauthentication":          "the program stays in the foreground; use & or the daemon",
	"forwardx11":                       "X11 is not forwarded",
	"forwardx11trusted":                "X11 is not forwarded",
	"gssapiauthentication":             "GSSAPI is not spoken",
	"gssapiclientidentity":             "GSSAPI is not spoken",
	"gssapidelegatecredentials":        "GSSAPI is not spoken",
	"gssapikexalgorithms":              "GSSAPI is not spoken",
	"gssapikeyexchange":                "GSSAPI is not spoken",
	"gssapirenewalforcesrekey":         "GSSAPI is not spoken",
	"gssapiserveridentity":             "GSSAPI is not spoken",
	"gssapitrustdns":                   "GSSAPI is not spoken",
	"hostbasedacceptedalgorithms":      "host-based logins are not done",
	"hostbasedauthentication":          "host-based logins are not done",
	"kbdinteractivedevices":            "the server picks the device",
	"knownhostscommand":                "host keys are looked for in files alone",
	"localcommand":                     "local commands are not run",
	"nohostauthenticationforlocalhost": "host keys are always verified",
	"permitlocalcommand":               "local commands are not run",
	"permitremoteopen":                 "where a remote SOCKS client may go is said by permit of the forward",
	"pkcs11provider":                   "keys of tokens come through the agent",
	"refuseconnection":                 "this is for OpenSSH's own client",
	"requiredrsasize":                  "RSA keys are held to the limits of this program",
	"securitykeyprovider":              "keys of tokens come through the agent",
	"tunnel":                           "tun devices are not forwarded",
	"tunneldevice":                     "tun devices are not forwarded",
	"verifyhostkeydns":                 "host keys are looked for in files alone",
}

// aliases are older and other words for a keyword.
var aliases = map[string]string{
	"pubkeyacceptedkeytypes": "pubkeyacceptedalgorithms", "hostbasedkeytypes": "hostbasedacceptedalgorithms",
	"challengeresponseauthentication": "kbdinteractiveauthentication", "skeyauthentication": "kbdinteractiveauthentication",
	"tisauthentication": "kbdinteractiveauthentication", "dsaauthentication": "pubkeyauthentication", "keepalive": "tcpkeepalive",
	"smartcarddevice": "pkcs11provider", "hostbasedacceptedkeytypes": "hostbasedacceptedalgorithms", "bindif": "bindinterface",
}

var errNoArgument = errors.New("there is no argument after the keyword")

// line evaluates one line. active is whether the block that it stands in holds, which Host and Match change.
func (e *evaluator) line(p place, line string, active *bool) error {
	written, text := cutKeyword(line)
	if written == "" {
		return nil
	}
	keyword := strings.ToLower(written)
	if known, ok := aliases[keyword]; ok {
		keyword = known
	}
	k := kindOf(keyword)
	s := setting{file: p.file, line: p.line, user: p.user, keyword: written}
	args, err := splitArgs(text)
	switch {
	case k == rest:
	case k == unknown || k == noted || k == quiet:
		return e.unhonoured(p, k, written, keyword, *active)
	case err != nil:
		return p.fail(written, err)
	case len(args) == 0:
		return p.fail(written, errNoArgument)
	}
	if k == hostLine || k == matchLine || k == includeLine {
		return e.structure(p, k, written, args, active)
	}
	if !*active {
		return nil
	}
	switch k {
	case ignoreLine:
		e.ignoreUnknown = strings.Join(args, ",")
		return nil
	case rest:
		if text == "" {
			return p.fail(written, errNoArgument)
		}
		if keyword == "proxycommand" {
			if _, ok := e.one["proxyjump"]; ok {
				return nil // whichever of the two stands first
			}
		}
		args = []string{strings.TrimLeft(text, space+"=")}
	case pair:
		if len(args) > 2 {
			return p.fail(written, fmt.Errorf("%q is one word too many", args[2]))
		}
		s.args = args
		e.many[keyword] = append(e.many[keyword], s)
		return nil
	case sendEnv:
		return e.sendEnv(p, args)
	case single, adding:
		if len(args) > 1 {
			return p.fail(written, fmt.Errorf("%q is one word too many", args[1]))
		}
		if args[0] == "" {
			return p.fail(written, errNoArgument)
		}
		if keyword == "proxyjump" {
			if _, ok := e.one["proxycommand"]; ok {
				return nil
			}
		}
	}
	s.args = args
	if k == adding {
		e.many[keyword] = append(e.many[keyword], s)
	} else if _, ok := e.one[keyword]; !ok {
		e.one[keyword] = s
	}
	return nil
}

// structure evaluates a line that begins a block, or another file.
func (e *evaluator) structure(p place, k kind, written string, args []string, active *bool) (err error) {
	switch {
	case p.file == commandLine:
		return p.fail(written, errors.New("it has no meaning on the command line"))
	case k == includeLine:
		return e.include(p, args, *active)
	case k == hostLine && slices.Contains(args, ""):
		return p.fail(written, errors.New("a pattern is empty"))
	case k == hostLine:
		*active = !p.never && matchHosts(e.host, args)
	case p.never:
		*active = false
	default:
		*active, err = e.matches(p, args)
	}
	return err
}

// unhonoured notes what changes nothing. What was said for this one connection has to be understood.
func (e *evaluator) unhonoured(p place, k kind, written, keyword string, active bool) error {
	switch {
	case !active || k == quiet:
	case k == noted:
		e.note(p, written, reasons[keyword])
	case e.ignoreUnknown != "" && MatchList(keyword, strings.ToLower(e.ignoreUnknown)):
	case p.file == commandLine:
		return p.fail(written, errors.New("there is no such keyword in ssh_config(5)"))
	default:
		e.note(p, written, "this keyword is not known")
	}
	return nil
}

// sendEnv adds names of variables, and takes away those after a "-".
func (e *evaluator) sendEnv(p place, args []string) error {
	for _, arg := range args {
		pattern, remove := strings.CutPrefix(arg, "-")
		switch {
		case pattern == "" || strings.Contains(pattern, "="):
			return p.fail("SendEnv", fmt.Errorf("%q is no name of a variable", arg))
		case remove:
			e.env = slices.DeleteFunc(e.env, func(name string) bool { return MatchPattern(name, pattern) })
		case !slices.Contains(e.env, pattern):
			e.env = append(e.env, pattern)
		}
	}
	return nil
}
