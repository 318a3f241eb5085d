package engine

// A Frozen is an open stream without its sockets: what another process needs, beside them, to go on with it.
type Frozen struct {
	Moved   [2]uint64 // bytes so far, by the side where they began
	Pending [2][]byte // read, and not yet taken by the other side
	Free    [2]uint64 // how much of that is a preamble, which is not counted
	Unix    [2]bool   // sockets that are not TCP
	Done    [2]bool   // nothing more comes from a side: its end has been passed on
}
