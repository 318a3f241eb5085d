// Package firewall knows the other firewalls of this host: it reads what they have in the kernel, finds the one that would
// drop what a forward lets in, and says whose it is and what to tell that program. Where it is asked to, it has such a
// firewall accept Fairlead's own sessions, and takes that away again.
//
//	nftables, by netlink ──► Dump ──► Ruleset ─┐
//	iptables-legacy-save ──────────► Ruleset ─┼─► a packet of each forward, as it would pass ──► Obstacle: whose, why, remedy
//	                forwards, Host ─► packets ─┘
//
// It answers "nothing known" where a rule looks at what it does not understand: a wrong culprit is worse than none. What
// forwards are and who carries them is decided elsewhere; nothing here asks another program to change its configuration.
package firewall
