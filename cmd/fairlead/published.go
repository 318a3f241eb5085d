package main

import (
	"fmt"
	"strings"

	"github.com/fairlead-net/fairlead/api"
)

// publishedLines says in words how forwards are reached from beyond gateways, or what is wrong. It leaves out what changes with every
// renewal.
func publishedLines(p api.Published) []string {
	if p.State == "searching" {
		return []string{"looking for gateways"}
	}
	var lines []string
	for _, e := range p.Ports {
		line := fmt.Sprintf("%s %s -> %s  ", e.Network, e.Public, e.Internal)
		if e.Protocol == "" {
			line += "by nobody: this host has a public address"
		} else {
			line += fmt.Sprintf("by %s of %s", e.Protocol, strings.Join(e.Gateway, " and "))
		}
		if e.Protocol != "" && e.Verified {
			line += ", verified"
		}
		if !e.Global {
			line += ", not reached from the internet"
		}
		lines = append(lines, line)
	}
	if p.Problem != "" {
		lines = append(lines, "problem: "+plain(p.Problem))
		if p.Hint != "" {
			lines = append(lines, "hint: "+plain(p.Hint))
		}
	}
	return lines
}
