package sshwire

import "time"

// An Asking is how a socket says which channel is to be opened for it. Its functions are called in the loop and must not wait for
// anything.
type Asking struct {
	// Ask is called when the socket can be read, which it does to the end. It returns the channel's type and what that wants besides.
	Ask func() (kind string, extra []byte, v Verdict)
	// Left is called instead of all others when there will be no channel: Ask wanted to leave, or the connection has ended before it
	// knew. The socket is the caller's again.
	Left     func()
	Patience time.Duration // after which the socket is reset
}

// A Verdict is what is to be done next with a socket that was asked.
type Verdict uint8

// What Ask may want.
const (
	AskAgain Verdict = iota // when there is more to read
	OpenNow
	Leave
)

// ask begins to wait for what the socket says.
func (ca *Carried) ask() {
	c := ca.conn
	if c.ended {
		ca.o.Asking.Left()
		return
	}
	ca.state = asking
	c.asking[ca] = struct{}{}
	if !ca.watch() {
		return
	}
	c.loop.timers.set(&ca.timer, ca, c.loop.now+int64(ca.o.Asking.Patience))
}

// asked has the socket's words judged.
func (ca *Carried) asked() {
	switch kind, extra, v := ca.o.Asking.Ask(); v {
	case Leave:
		ca.leave()
	case OpenNow:
		delete(ca.conn.asking, ca)
		ca.conn.loop.timers.clear(&ca.timer)
		ca.state = waiting
		ca.open(kind, extra)
	}
}

func (ca *Carried) leave() {
	delete(ca.conn.asking, ca)
	ca.letGo()
	ca.o.Asking.Left()
}

// letGo gives the socket back, if it was watched already.
func (ca *Carried) letGo() {
	ca.state = ended
	if ca.place >= 0 {
		sysUnwatch(ca.conn.loop.epoll, ca.fd)
		ca.conn.loop.forget(ca.place)
		ca.place = -1
	}
	ca.conn.loop.timers.clear(&ca.timer)
}
