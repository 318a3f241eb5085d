// Package netlab builds small networks out of network namespaces, for tests and benchmarks that want real hosts, real
// packets and real programs: a client, a router, servers behind a bridge. Linux and root only; on other systems the
// package is empty, and so are the tests that use it.
//
// It knows hosts, wires, processes and addresses, and nothing of Fairlead: what is started on a host is the caller's
// affair, and no other room of this project may be imported here. The machine's own network is never touched; all that is
// seen from outside is a name per host under /run/netns, which goes with the lab, or with the next lab when a process died.
package netlab
