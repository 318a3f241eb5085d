// Package sshd is an SSH server whose clients forward ports and nothing else: there is no shell and there are no commands.
//
// It knows the protocol, the keys and what each key may. What a client asks to have dialled is dialled by Options.Dial, and
// what it asks to have listened for is handed to Options.Forwards with the client as the node.Node that dials; which
// listeners stand and what becomes of them is decided there. The configuration is not read here.
//
//	                   ┌ wirePeer: sshwire, a loop ────────────────┐
//	login ─► peer ─────┤                                            ├──► client: rights, limits ──► Dial, Connect
//	                   └ plainPeer: x/crypto/ssh, goroutines ───────┘         └─► clientNode ◄── Forwards
package sshd
