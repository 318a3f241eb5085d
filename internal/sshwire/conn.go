package sshwire

import (
	"context"
	"errors"
	"net"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"
)

// Options are what a connection does after the login.
type Options struct {
	// Channel is given each channel that the peer opens; it has to accept or reject it, then or later. Request is given each
	// global request; it has to reply, then or later, if a reply is wanted. Both are called in the loop and must not wait for
	// anything. nil refuses everything.
	Channel func(*Incoming)
	Request func(*Request)

	// Ended is told in the loop that the connection has ended. Run returns later if sockets still take what has come for them.
	Ended func(error)

	Keepalive    time.Duration // silence after which the peer is asked whether it lives; 0: never
	KeepaliveMax int           // how often it is asked before it is given up; 0 is 3
	RekeyBytes   uint64        // either way, after which keys are exchanged again; 0 is 1 GiB
	RekeyAfter   time.Duration // 0 is an hour
	Linger       time.Duration // for a carried socket to take some of what has come before the connection ended; 0 is 30 s
	MaxChannels  int           // that the peer may have opened at a time; 0 is 16384
}

// A Conn is a connection that is logged in. Nothing happens until Run. It is safe for concurrent use.
type Conn struct {
	*transport
	loop        *Loop
	private     bool // the loop is of this connection alone
	login       *Login
	permissions *ssh.Permissions
	o           Options
	fd, place   int32
	sent        int    // of outgoing
	rest        []byte // the beginning of a packet
	in          bool   // there may be something to read
	hangup      bool   // nothing more will come
	full        bool   // the socket takes nothing now
	busy        bool   // in Loop.busy
	channels    []*Channel
	freeIDs     []uint32
	queue       []*Channel // that have something to send and wait for their turn
	lingering   map[*Carried]struct{}
	asking      map[*Carried]struct{}
	granted     int   // sum of the windows that the peer was given
	theirs      int   // channels that the peer has opened
	heard       int64 // when something arrived
	asked       int   // keepalives without an answer
	keyed       int64 // when the keys were exchanged
	timer       timer
	roundTrip   roundTrip
	waiting     []func(ok bool, payload []byte) // for replies to global requests
	replies     replies
	unanswered  int // requests of the peer's, in channels as well
	ended       bool

	done chan struct{} // closed when everything has ended

	mu      sync.Mutex
	socket  Socket // until Run
	running bool
	early   []func() // what was asked for before Run
	err     error
}

func newConn(r ready) (*Conn, error) {
	c := &Conn{
		transport: r.transport, loop: r.loop, login: r.login, permissions: r.permissions, socket: r.conn, rest: r.rest,
		fd: -1, lingering: map[*Carried]struct{}{}, asking: map[*Carried]struct{}{}, done: make(chan struct{}),
	}
	if c.loop == nil {
		l, err := NewLoop()
		if err != nil {
			return nil, err
		}
		c.loop, c.private = l, true
	}
	return c, nil
}

// Login says who is at the two ends.
func (c *Conn) Login() *Login { return c.login }

// Permissions are what the server's PublicKeyCallback returned; nil for a client.
func (c *Conn) Permissions() *ssh.Permissions { return c.permissions }

// Loop is what serves the connection.
func (c *Conn) Loop() *Loop { return c.loop }

// Done is closed when the connection and everything in it has ended. Run has to have been called.
func (c *Conn) Done() <-chan struct{} { return c.done }

// Err is why the connection has ended, nil if it has not.
func (c *Conn) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// Close ends the connection, and all that is carried by it is reset. It does not wait.
func (c *Conn) Close() error {
	c.mu.Lock()
	if c.running {
		c.mu.Unlock()
		c.loop.post(func() { c.die(ErrClosed) })
		return nil
	}
	c.running, c.ended, c.err = true, true, ErrClosed
	early := c.early
	c.early = nil
	c.mu.Unlock()
	if c.private {
		c.loop.abandon()
	}
	for _, do := range early { // and find that it has ended
		do()
	}
	close(c.done)
	return c.socket.Close()
}

var errRunTwice = errors.New("an SSH connection runs once")

// Run serves the connection until it ends, by an error or because ctx does, and returns why. Nothing of it is left then.
func (c *Conn) Run(ctx context.Context, o Options) error {
	c.o = o.complete()
	c.mu.Lock()
	if c.running {
		err := c.err
		c.mu.Unlock()
		return errors.Join(errRunTwice, err)
	}
	fd, err := sysTake(c.socket)
	if err != nil {
		c.mu.Unlock()
		return errors.Join(err, c.Close())
	}
	c.fd, c.running = fd, true
	c.mu.Unlock()
	defer context.AfterFunc(ctx, func() { c.loop.post(func() { c.die(context.Cause(ctx)) }) })()
	if c.private {
		c.start()
		c.loop.serve(c.over)
	} else if !c.loop.post(c.start) {
		sysClose(c.fd)
		c.finish(ErrClosed)
		c.ended = true
		c.runEarly()
		close(c.done)
	}
	<-c.done
	return c.Err()
}

func (o Options) complete() Options {
	if o.KeepaliveMax == 0 {
		o.KeepaliveMax = 3
	}
	if o.RekeyBytes == 0 {
		o.RekeyBytes = 1 << 30
	}
	if o.RekeyAfter == 0 {
		o.RekeyAfter = time.Hour
	}
	if o.Linger == 0 {
		o.Linger = 30 * time.Second
	}
	if o.MaxChannels == 0 {
		o.MaxChannels = 1 << 14
	}
	return o
}

// post has the loop do something for the connection, after Run, and reports whether it will.
func (c *Conn) post(do func()) bool {
	c.mu.Lock()
	if !c.running {
		c.early = append(c.early, do)
		c.mu.Unlock()
		return true
	}
	err := c.err
	c.mu.Unlock()
	return err == nil && c.loop.post(do)
}

// start begins in the loop.
func (c *Conn) start() {
	var err error
	l := c.loop
	if c.ended { // closed before it began
		c.runEarly()
		return
	}
	l.now = clock()
	c.heard, c.keyed = l.now, l.now
	c.buffers = &l.buffers
	if len(c.outgoing) == 0 {
		c.outgoing = nil
	}
	if c.place, err = l.watch(c.fd, c); err != nil {
		c.place = -1
		c.die(err)
		return
	}
	rest := c.rest
	c.rest = nil
	if err := c.packets(rest); err != nil {
		c.fail(err)
	}
	c.runEarly()
	if !c.ended {
		c.in = true
		c.look()
		c.mark()
	}
}

// runEarly does what was asked for before Run. After the end of the connection it finds that.
func (c *Conn) runEarly() {
	c.mu.Lock()
	early := c.early
	c.early = nil
	c.mu.Unlock()
	for _, do := range early {
		do()
	}
}

// over reports whether nothing is left.
func (c *Conn) over() bool { return c.ended && len(c.lingering) == 0 }

// finish notes the end for those who ask from outside.
func (c *Conn) finish(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err == nil {
		c.err = err
	}
}

// fail ends the connection because of what the peer did, and tells it.
func (c *Conn) fail(err error) {
	var rules *protocolError
	if errors.As(err, &rules) {
		c.disconnect(reasonProtocol, rules.text)
	}
	c.die(err)
}

// die ends the connection.
func (c *Conn) die(err error) {
	ours := errors.Is(err, net.ErrClosed) || errors.Is(err, context.Canceled)
	if c.ended {
		if ours {
			c.stopLingering()
		}
		return
	}
	c.ended = true
	c.finish(err)
	if ours {
		c.disconnect(reasonByApplication, "closed")
	}
	c.flush()
	c.loop.timers.clear(&c.timer)
	if c.place >= 0 {
		c.loop.forget(c.place)
	}
	sysClose(c.fd)
	c.buffers.give(c.outgoing)
	c.outgoing, c.held, c.rest, c.queue = nil, nil, nil, nil
	for _, done := range c.waiting {
		done(false, nil)
	}
	c.waiting = nil
	for _, ch := range c.channels {
		if ch != nil {
			ch.lost(err)
		}
	}
	c.channels = nil
	for ca := range c.asking {
		ca.leave()
	}
	for ca := range c.lingering {
		if ca.until == 0 {
			ca.hurry()
			ca.reschedule()
		}
	}
	if ours {
		c.stopLingering()
	}
	if c.o.Ended != nil {
		c.o.Ended(err)
	}
	c.settled()
}

// stopLingering waits for no application any longer.
func (c *Conn) stopLingering() {
	for ca := range c.lingering {
		ca.end(true)
	}
}

// settled closes done once nothing lingers any more.
func (c *Conn) settled() {
	if c.over() {
		select {
		case <-c.done:
		default:
			close(c.done)
		}
	}
}
