// Package agent is the two kinds of node that a tunnel between a hub and an agent makes: Hub is the hub as its agent has it, and Far
// is an agent as its hub has it. Each dials and listens at the other end, streams as well as datagrams.
//
//	            the asking end                        the serving end
//	Dial    ──► Session.Open(Dial)             ──►  Porter: permitted? dial, join
//	Listen  ──► Session.Ask("listen")          ──►  Desk: permitted? node.Forwards.Put
//	Accept  ◄── Opened(Arrived)                ◄──  the node that Put was given
//
// Both ends are the same code. Who may do what is said by whoever makes a node: a Porter asks its Judge and a Desk its Landlord, at
// each call. Links, keys and the registry of agents do not come in here, nor do sockets of this machine: they are injected.
package agent
