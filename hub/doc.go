// Package hub is the reachable machine that agents come to: it knows who is enrolled (Registry), what each of them may (Limits), and
// who is there (Hub).
//
// An agent is known by the key that its link has proven, and by nothing else: what it may is looked up under that key at every stream, flow
// and listener, and its answers are found under that key. Links are accepted elsewhere and given to Serve; what an agent asks to have
// listened for is handed to Options.Forwards with the agent as the node that dials, and what it asks to have dialled is dialled by
// Options.Dial. No socket is opened here, and the configuration is not read here.
//
//	link ─► Serve ─► who? ─► member ─┬─ Far   ◄── forwards with via = "agent"
//	                (Registry)        ├─ Desk  ──► Forwards: listeners of the agent's
//	                                  └─ Porter ─► Dial, or the Far of another agent
package hub
