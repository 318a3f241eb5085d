package sshconfig

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Dump is h the way `ssh -G` prints it: a keyword in lower case and its value on each line. Keywords that are not honoured,
// and algorithms that nothing was said about, are left out.
func (h *Host) Dump() []string {
	var lines []string
	say := func(keyword string, values ...string) {
		if len(values) > 0 && values[0] != "" {
			lines = append(lines, keyword+" "+strings.Join(values, " "))
		}
	}
	flag := func(keyword string, value bool) { say(keyword, map[bool]string{true: "yes", false: "no"}[value]) }
	each := func(keyword string, values []string) {
		for _, v := range values {
			say(keyword, v)
		}
	}
	say("host", h.Original)
	say("user", h.User)
	say("hostname", h.Hostname)
	say("port", strconv.Itoa(int(h.Port)))
	say("addressfamily", h.AddressFamily)
	flag("batchmode", h.BatchMode)
	flag("clearallforwardings", h.ClearAllForwardings)
	flag("exitonforwardfailure", h.ExitOnForwardFailure)
	flag("gatewayports", h.GatewayPorts)
	flag("hashknownhosts", h.HashKnownHosts)
	flag("identitiesonly", h.IdentitiesOnly)
	flag("kbdinteractiveauthentication", h.KbdInteractiveAuthentication)
	flag("passwordauthentication", h.PasswordAuthentication)
	say("pubkeyauthentication", h.pubkey())
	say("requesttty", cmp.Or(map[string]string{"yes": "true", "no": "false"}[h.RequestTTY], h.RequestTTY))
	say("sessiontype", h.SessionType)
	flag("stdinnull", h.StdinNull)
	flag("streamlocalbindunlink", h.StreamLocalBindUnlink)
	say("stricthostkeychecking", h.StrictHostKeyChecking.String())
	flag("tcpkeepalive", h.TCPKeepAlive)
	say("connectionattempts", strconv.Itoa(h.ConnectionAttempts))
	say("numberofpasswordprompts", strconv.Itoa(h.NumberOfPasswordPrompts))
	say("serveralivecountmax", strconv.Itoa(h.ServerAliveCountMax))
	say("serveraliveinterval", seconds(h.ServerAliveInterval))
	for _, list := range []struct{ keyword, value string }{
		{"bindaddress", h.BindAddress}, {"bindinterface", h.BindInterface}, {"ciphers", h.Ciphers}, {"hostkeyalgorithms", h.HostKeyAlgorithms},
		{"hostkeyalias", h.HostKeyAlias}, {"kexalgorithms", h.KexAlgorithms}, {"identityagent", h.identityAgent()},
		{"remotecommand", h.RemoteCommand}, {"macs", h.MACs}, {"loglevel", h.LogLevel},
		{"preferredauthentications", strings.Join(h.PreferredAuthentications, ",")}, {"pubkeyacceptedalgorithms", h.PubkeyAcceptedAlgorithms},
		{"revokedhostkeys", h.first("revokedhostkeys")},
	} {
		say(list.keyword, list.value)
	}
	for _, f := range h.DynamicForwards {
		say("dynamicforward", dumped(f.Listen))
	}
	for _, f := range h.LocalForwards {
		say("localforward", dumped(f.Listen), dumped(f.To))
	}
	for _, f := range h.RemoteForwards {
		if f.Dynamic {
			say("remoteforward", dumped(f.Listen), "[socks]:0")
		} else {
			say("remoteforward", dumped(f.Listen), dumped(f.To))
		}
	}
	each("identityfile", distinct(h.raw["identityfile"], h.Identities))
	each("certificatefile", distinct(h.raw["certificatefile"], nil))
	say("globalknownhostsfile", noneWhereEmpty(h.GlobalKnownHosts)...)
	say("userknownhostsfile", noneWhereEmpty(h.UserKnownHosts)...)
	each("sendenv", h.SendEnv)
	each("setenv", h.SetEnv)
	say("forwardagent", cmp.Or(h.rawAgent(), h.ForwardAgent))
	say("connecttimeout", cmp.Or(strings.TrimPrefix(seconds(h.ConnectTimeout), "0"), "none"))
	say("escapechar", visible(h.EscapeChar))
	say("streamlocalbindmask", fmt.Sprintf("0%o", h.StreamLocalBindMask))
	if h.ProxyCommand != "" {
		say("proxycommand", h.first("proxycommand"))
	}
	say("proxyjump", strings.Join(h.ProxyJump, ","))
	return lines
}

func (h *Host) pubkey() string {
	switch word := lower(h.first("pubkeyauthentication")); word {
	case "", "yes":
		return "true"
	case "no":
		return "false"
	default:
		return word
	}
}

func (h *Host) first(keyword string) string {
	if list := h.raw[keyword]; len(list) > 0 {
		return list[0]
	}
	return ""
}

func (h *Host) identityAgent() string {
	if said := h.first("identityagent"); said == "SSH_AUTH_SOCK" || strings.HasPrefix(said, "$") {
		return said
	}
	return h.IdentityAgent
}

func (h *Host) rawAgent() string {
	if said := h.first("forwardagent"); strings.HasPrefix(said, "$") {
		return said
	}
	return ""
}

func seconds(d time.Duration) string { return strconv.Itoa(int(d / time.Second)) }

// dumped is an end with every host in brackets.
func dumped(e End) string {
	if e.Path != "" || !e.Bound {
		return e.String()
	}
	return fmt.Sprintf("[%s]:%d", e.Host, e.Port)
}

func noneWhereEmpty(list []string) []string {
	if len(list) == 0 {
		return []string{"none"}
	}
	return list
}

func distinct(said, otherwise []string) []string {
	if len(said) == 0 {
		said = otherwise
	}
	var list []string
	seen := map[string]bool{}
	for _, s := range said {
		if !seen[s] {
			list = append(list, s)
		}
		seen[s] = true
	}
	return list
}

func visible(char string) string {
	if len(char) == 1 && char[0] < ' ' {
		return `\^` + string(char[0]+64)
	}
	return char
}
