// Package config reads what people write: fairlead.toml, with forwards, nodes, users, the SSH server, the hub and its agents, and the keys of a forward
// from a command line or an API request.
//
// Everything is refused at load or not at all. A refusal names the file, the line, the column, the forward, what is wrong
// and what would be right, and one reading reports everything it found. Nothing is silently ignored, and no password is
// repeated.
//
// What a forward means belongs to package forward; whether this host can carry it is the planner's to say. Neither
// sockets nor name lookups nor anything else that depends on the host may come in here: the same bytes always get the
// same answer.
package config
