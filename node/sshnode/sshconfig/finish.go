package sshconfig

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
)

func lower(s string) string { return strings.ToLower(s) }

// finish makes a Host of what was collected.
func (e *evaluator) finish(name string) (*Host, error) {
	tokens := e.tokens(name)
	r := &reader{e: e, tokens: tokens, proxy: only(tokens, "hnpr")}
	h := &Host{Original: e.original, Hostname: name, User: tokens['r'], said: map[string]bool{}, raw: map[string][]string{}}
	for keyword, s := range e.one {
		h.said[keyword] = true
		h.raw[keyword] = s.args
	}
	for keyword, list := range e.many {
		h.said[keyword] = true
		for _, s := range list {
			h.raw[keyword] = append(h.raw[keyword], s.args...)
		}
	}
	h.said["sendenv"] = len(e.env) > 0
	if err := checkUser(h.User); err != nil {
		return nil, err
	}
	r.login(h)
	r.connection(h)
	r.session(h)
	r.forwards(h)
	if r.err != nil {
		return nil, r.err
	}
	return h, nil
}

// checkUser refuses what could be taken for something else in a command (CVE-2023-51385).
func checkUser(user string) error {
	if user == "" || user[0] == '-' || strings.ContainsAny(user, "'`\";&<>|(){}\r\n\x00") || strings.HasSuffix(user, "\\") {
		return fmt.Errorf("%.80q is no user name", user)
	}
	return nil
}

func (r *reader) login(h *Host) {
	r.flag("identitiesonly", &h.IdentitiesOnly, false)
	r.flag("passwordauthentication", &h.PasswordAuthentication, true)
	r.flag("kbdinteractiveauthentication", &h.KbdInteractiveAuthentication, true)
	r.flag("batchmode", &h.BatchMode, false)
	r.flag("hashknownhosts", &h.HashKnownHosts, false)
	r.number("numberofpasswordprompts", &h.NumberOfPasswordPrompts, 3, 1)
	way := r.word("pubkeyauthentication", "yes", "yes", "true", "no", "false", "unbound", "host-bound")
	h.PubkeyAuthentication = way != "no" && way != "false"
	switch r.word("stricthostkeychecking", "ask", "ask", "yes", "true", "no", "false", "off", "accept-new") {
	case "yes", "true":
		h.StrictHostKeyChecking = StrictYes
	case "no", "false", "off":
		h.StrictHostKeyChecking = StrictNo
	case "accept-new":
		h.StrictHostKeyChecking = StrictAcceptNew
	}
	if s, ok := r.e.one["hostkeyalias"]; ok {
		h.HostKeyAlias = lower(s.args[0])
	}
	if s, ok := r.e.one["revokedhostkeys"]; ok && lower(s.args[0]) != "none" {
		h.RevokedHostKeys = r.path(s, s.args[0])
	}
	if s, ok := r.e.one["identityagent"]; ok {
		h.IdentityAgent = r.agent(s, s.args[0], true)
	}
	h.ForwardAgent = "no"
	if s, ok := r.e.one["forwardagent"]; ok {
		switch word := lower(s.args[0]); word {
		case "yes", "true":
			h.ForwardAgent = "yes"
		case "no", "false":
		default:
			h.ForwardAgent = r.agent(s, s.args[0], false)
		}
	}
	if s, ok := r.e.one["preferredauthentications"]; ok {
		h.PreferredAuthentications = strings.Split(s.args[0], ",")
	}
	dir := r.e.machine.sshDir()
	h.Identities = r.paths("identityfile")
	if _, ok := r.e.many["identityfile"]; !ok {
		for _, name := range []string{"id_rsa", "id_ecdsa", "id_ecdsa_sk", "id_ed25519", "id_ed25519_sk"} {
			h.Identities = append(h.Identities, filepath.Join(dir, name))
		}
	}
	h.Certificates = r.paths("certificatefile")
	h.UserKnownHosts = r.list("userknownhostsfile", filepath.Join(dir, "known_hosts"), filepath.Join(dir, "known_hosts2"))
	h.GlobalKnownHosts = r.list("globalknownhostsfile", filepath.Join(systemDir, "ssh_known_hosts"), filepath.Join(systemDir, "ssh_known_hosts2"))
}

func (r *reader) connection(h *Host) {
	h.Port = 22
	if s, ok := r.e.one["port"]; ok {
		port, err := r.e.machine.port(s.args[0])
		if err == nil && port == 0 {
			err = fmt.Errorf("nothing can be reached at port 0")
		}
		r.keep(s, err)
		h.Port = port
	}
	if s, ok := r.e.one["proxyjump"]; ok && lower(s.args[0]) != "none" {
		jumps, err := r.jumps(s.args[0])
		r.keep(s, err)
		h.ProxyJump = jumps
	}
	if s, ok := r.e.one["proxycommand"]; ok && lower(s.args[0]) != "none" {
		command, err := expand(s.args[0], r.proxy, nil)
		r.keep(s, err)
		h.ProxyCommand = command
	}
	r.duration("serveraliveinterval", &h.ServerAliveInterval)
	r.duration("connecttimeout", &h.ConnectTimeout)
	r.number("serveralivecountmax", &h.ServerAliveCountMax, 3, 0)
	r.number("connectionattempts", &h.ConnectionAttempts, 1, 1)
	h.AddressFamily = r.word("addressfamily", "any", "any", "inet", "inet6")
	r.flag("tcpkeepalive", &h.TCPKeepAlive, true)
	for keyword, to := range map[string]*string{
		"bindaddress": &h.BindAddress, "bindinterface": &h.BindInterface, "ciphers": &h.Ciphers, "kexalgorithms": &h.KexAlgorithms,
		"macs": &h.MACs, "hostkeyalgorithms": &h.HostKeyAlgorithms, "pubkeyacceptedalgorithms": &h.PubkeyAcceptedAlgorithms,
	} {
		if s, ok := r.e.one[keyword]; ok {
			*to = s.args[0]
		}
	}
}

func (r *reader) session(h *Host) {
	h.RequestTTY = r.word("requesttty", "auto", "auto", "yes", "true", "no", "false", "force")
	h.RequestTTY = strings.NewReplacer("true", "yes", "false", "no").Replace(h.RequestTTY)
	h.SessionType = r.word("sessiontype", "default", "default", "none", "subsystem")
	r.flag("stdinnull", &h.StdinNull, false)
	if s, ok := r.e.one["remotecommand"]; ok && lower(s.args[0]) != "none" {
		command, err := expand(s.args[0], r.tokens, nil)
		r.keep(s, err)
		h.RemoteCommand = command
	}
	h.SendEnv = slices.Clone(r.e.env)
	if s, ok := r.e.one["setenv"]; ok {
		for _, pair := range s.args {
			if name, _, ok := strings.Cut(pair, "="); !ok || name == "" {
				r.keep(s, fmt.Errorf("%.40q is not written as NAME=value", pair))
			}
		}
		h.SetEnv = s.args
	}
	h.EscapeChar = "~"
	if s, ok := r.e.one["escapechar"]; ok {
		switch char := s.args[0]; {
		case lower(char) == "none":
			h.EscapeChar = "none"
		case len(char) == 1:
			h.EscapeChar = char
		case len(char) == 2 && char[0] == '^' && char[1] >= 64 && char[1] < 128:
			h.EscapeChar = string(char[1] & 31)
		default:
			r.keep(s, fmt.Errorf("%q is no character, ^ and a letter, or none", char))
		}
	}
	h.LogLevel = strings.ToUpper(r.word("loglevel", "info", "quiet", "fatal", "error", "info", "verbose", "debug", "debug1", "debug2", "debug3"))
	if h.LogLevel == "DEBUG1" {
		h.LogLevel = "DEBUG" // they mean the same
	}
}

func (r *reader) forwards(h *Host) {
	r.flag("gatewayports", &h.GatewayPorts, false)
	r.flag("exitonforwardfailure", &h.ExitOnForwardFailure, false)
	r.flag("clearallforwardings", &h.ClearAllForwardings, false)
	r.flag("streamlocalbindunlink", &h.StreamLocalBindUnlink, false)
	h.StreamLocalBindMask = 0o177
	if s, ok := r.e.one["streamlocalbindmask"]; ok {
		var mask uint32
		n, err := fmt.Sscanf(s.args[0], "%o", &mask)
		if n != 1 || err != nil || mask > 0o777 {
			r.keep(s, fmt.Errorf("%q is no mask; write it like 0177", s.args[0]))
		}
		h.StreamLocalBindMask = mask
	}
	h.LocalForwards = r.forwardsOf("localforward", Local)
	h.RemoteForwards = r.forwardsOf("remoteforward", Remote)
	h.DynamicForwards = r.forwardsOf("dynamicforward", Dynamic)
	if h.ClearAllForwardings {
		h.LocalForwards, h.RemoteForwards, h.DynamicForwards = nil, nil, nil
	}
}
