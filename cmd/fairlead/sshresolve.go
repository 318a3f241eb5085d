package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"

	"golang.org/x/crypto/ssh"

	"github.com/fairlead-net/fairlead/node/sshnode"
	"github.com/fairlead-net/fairlead/node/sshnode/sshconfig"
)

// resolveSSH is how nodes learn what ssh_config(5) says. What changed nothing is logged at the level ignored.
func resolveSSH(log *slog.Logger, ignored slog.Level) func(context.Context, sshnode.Query) (sshnode.Resolved, error) {
	return func(ctx context.Context, q sshnode.Query) (sshnode.Resolved, error) {
		o := sshconfig.LookupOptions{User: q.User, Overrides: q.Options, Config: q.Config, Exec: matchExec(ctx)}
		if q.Port != 0 {
			o.Overrides = append([]string{fmt.Sprintf("Port=%d", q.Port)}, o.Overrides...)
		}
		h, notes, err := sshconfig.Lookup(q.Host, o)
		if err != nil {
			return sshnode.Resolved{}, err
		}
		for _, note := range notes {
			log.Log(ctx, ignored, "ssh_config", "host", q.Host, "ignored", note.String())
		}
		return resolvedOf(h)
	}
}

// matchExec runs the commands of Match exec as OpenSSH does: in the user's shell, with nothing to read.
func matchExec(ctx context.Context) func(string) bool {
	return func(command string) bool {
		shell := os.Getenv("SHELL")
		if shell == "" {
			shell = "/bin/sh"
		}
		cmd := exec.CommandContext(ctx, shell, "-c", command)
		cmd.Stderr = os.Stderr
		return cmd.Run() == nil
	}
}

// resolvedOf is h in the words of a node. What was not said is left to the node.
func resolvedOf(h *sshconfig.Host) (sshnode.Resolved, error) {
	r := sshnode.Resolved{
		HostName: literal(h.Hostname), Port: h.Port, User: h.User, HostAlias: literal(h.HostKeyAlias),
		IdentitiesOnly: h.IdentitiesOnly, CertificateFiles: literals(h.Certificates), IdentityAgent: literal(h.IdentityAgent),
		HashKnownHosts: h.HashKnownHosts, RevokedHostKeys: literal(h.RevokedHostKeys),
		ProxyJump: h.ProxyJump, ProxyCommand: literal(h.ProxyCommand),
		ServerAliveInterval: h.ServerAliveInterval, ConnectTimeout: h.ConnectTimeout, BindAddress: h.BindAddress, AddressFamily: h.AddressFamily,
		Authentications: authentications(h),
	}
	r.StrictHostKeyChecking = map[sshconfig.Strict]string{
		sshconfig.StrictAsk: "ask", sshconfig.StrictYes: "yes", sshconfig.StrictAcceptNew: "accept-new", sshconfig.StrictNo: "no",
	}[h.StrictHostKeyChecking]
	if h.BatchMode && r.StrictHostKeyChecking == "ask" {
		r.StrictHostKeyChecking = "yes"
	}
	if h.Said("ServerAliveCountMax") {
		r.ServerAliveCountMax = h.ServerAliveCountMax
	}
	// A list that was said and is empty says none: nothing is a file of that name.
	for _, list := range []struct {
		keyword string
		from    []string
		to      *[]string
	}{
		{"identityfile", h.Identities, &r.IdentityFiles}, {"userknownhostsfile", h.UserKnownHosts, &r.UserKnownHostsFiles},
		{"globalknownhostsfile", h.GlobalKnownHosts, &r.GlobalKnownHostsFiles},
	} {
		if h.Said(list.keyword) {
			if *list.to = literals(list.from); len(list.from) == 0 {
				*list.to = []string{"none"}
			}
		}
	}
	if h.BindInterface != "" && r.BindAddress == "" {
		addr, err := interfaceAddr(h.BindInterface, h.AddressFamily)
		if err != nil {
			return r, err
		}
		r.BindAddress = addr
	}
	there, more := ssh.SupportedAlgorithms(), ssh.InsecureAlgorithms()
	for _, list := range []struct {
		keyword, text  string
		defaults, more []string
		to             *[]string
	}{
		{"Ciphers", h.Ciphers, there.Ciphers, more.Ciphers, &r.Ciphers},
		{"KexAlgorithms", h.KexAlgorithms, there.KeyExchanges, more.KeyExchanges, &r.KexAlgorithms},
		{"MACs", h.MACs, there.MACs, more.MACs, &r.MACs},
		{"HostKeyAlgorithms", h.HostKeyAlgorithms, there.HostKeys, more.HostKeys, &r.HostKeyAlgorithms},
	} {
		if list.text == "" {
			continue
		}
		*list.to = sshconfig.Assemble(list.text, list.defaults, slices.Concat(list.defaults, list.more))
		if len(*list.to) == 0 {
			return r, fmt.Errorf("%s: nothing is left of %q; there are %s", list.keyword, list.text, strings.Join(list.defaults, ", "))
		}
	}
	return r, nil
}

// authentications are the ways to log in that are wanted, in their order.
func authentications(h *sshconfig.Host) []string {
	list := h.PreferredAuthentications
	if len(list) == 0 {
		list = []string{"publickey", "keyboard-interactive", "password"}
	}
	off := map[string]bool{
		"publickey": !h.PubkeyAuthentication, "keyboard-interactive": !h.KbdInteractiveAuthentication || h.BatchMode,
		"password": !h.PasswordAuthentication || h.BatchMode,
	}
	return slices.DeleteFunc(slices.Clone(list), func(way string) bool { return off[way] })
}

// literal keeps a node from putting tokens in a second time.
func literal(s string) string { return strings.ReplaceAll(s, "%", "%%") }

func literals(list []string) []string {
	var escaped []string
	for _, s := range list {
		escaped = append(escaped, literal(s))
	}
	return escaped
}

// interfaceAddr is an address of an interface, of the family that is asked for.
func interfaceAddr(name, family string) (string, error) {
	i, err := net.InterfaceByName(name)
	if err != nil {
		return "", fmt.Errorf("interface %s: %w", name, err)
	}
	addrs, err := i.Addrs()
	if err != nil {
		return "", fmt.Errorf("interface %s: %w", name, err)
	}
	for _, a := range addrs {
		p, ok := a.(*net.IPNet)
		if !ok || p.IP.IsLinkLocalUnicast() || family == "inet" && p.IP.To4() == nil || family == "inet6" && p.IP.To4() != nil {
			continue
		}
		return p.IP.String(), nil
	}
	return "", fmt.Errorf("interface %s has no address to connect from", name)
}
