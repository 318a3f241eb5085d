// Package kernel is the carrier that leaves the bytes to the kernel: forwards become entries in nftables maps, and packets
// never reach user space.
//
// A Gateway, in a table of its own, makes this host a network's gateway: translation, protection, endpoint-independent mappings.
//
// Compiling forwards into a Ruleset is pure; applying it, counting, conntrack and probing are Linux only. The package owns
// its own tables and touches no other. Nothing here decides which forwards it gets: that is the table's.
package kernel
