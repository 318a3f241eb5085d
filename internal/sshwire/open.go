package sshwire

import (
	"bytes"
	"context"
	"errors"
	"sync/atomic"
)

// An opening is a channel that the peer was asked for.
type opening struct {
	opened func()
	failed func(error)
	given  bool // up, but the answer has to be awaited
}

var errNumbers = errors.New("the SSH connection has as many channels as it can have")

// OpenChannel opens a channel; extra is what its type wants besides (RFC 4254, section 5.1). onRequest is given the requests
// that the peer makes in it, in the loop: it must not wait for anything. nil refuses them. An *OpenError is what the peer said.
func (c *Conn) OpenChannel(ctx context.Context, kind string, extra []byte, onRequest func(*Request)) (*Channel, error) {
	type result struct {
		ch  *Channel
		err error
	}
	answer := make(chan result, 1)
	var ch *Channel
	if !c.post(func() {
		o := &opening{failed: func(err error) { answer <- result{nil, err} }}
		ch = c.openNow(kind, extra, o)
		if ch != nil {
			ch.streaming()
			ch.onRequest = onRequest
			opened := ch
			o.opened = func() { answer <- result{opened, nil} }
		}
	}) {
		return nil, c.closed()
	}
	select {
	case r := <-answer:
		return r.ch, r.err
	case <-ctx.Done():
	}
	c.post(func() {
		if ch != nil {
			ch.giveUp()
		}
	})
	return nil, ctx.Err()
}

// closed is why nothing can be asked for any more.
func (c *Conn) closed() error {
	if err := c.Err(); err != nil {
		return err
	}
	return ErrClosed
}

// openNow asks for a channel, or fails the opening and returns nil.
func (c *Conn) openNow(kind string, extra []byte, o *opening) *Channel {
	if c.ended {
		o.failed(c.closed())
		return nil
	}
	ch := c.newChannel()
	if ch == nil {
		o.failed(errNumbers)
		return nil
	}
	ch.opening = o
	b := appendString(c.begin(msgChannelOpen), kind)
	b = appendU32(b, ch.local)
	b = appendU32(b, uint32(ch.window))
	b = appendU32(b, maxData)
	c.end(append(b, extra...))
	c.mark()
	return ch
}

// giveUp closes a channel that nobody waits for any more, or closes it as soon as it is open.
func (ch *Channel) giveUp() {
	if ch.opening != nil {
		ch.opening.given = true
		return
	}
	if ch.open {
		ch.side.gone(ErrClosed)
		ch.sendClose()
	}
}

// receiveOpened takes the answer to openNow.
func (c *Conn) receiveOpened(message byte, r *reader) error {
	id := r.u32()
	ch := c.channel(id)
	if ch == nil || ch.opening == nil {
		return broken("an answer for the channel %d, which is not being opened", id)
	}
	o := ch.opening
	if message == msgChannelRefused {
		refused := &OpenError{Reason: r.u32(), Text: r.string()}
		if r.bad {
			return broken("the refusal of the channel %d is malformed", id)
		}
		ch.opening = nil
		ch.release()
		if !o.given {
			o.failed(refused)
		}
		return nil
	}
	if !ch.peerTakes(r) {
		return broken("the confirmation of the channel %d is malformed", id)
	}
	ch.opening, ch.open = nil, true
	if o.given {
		ch.side.gone(ErrClosed)
		ch.sendClose()
		return nil
	}
	o.opened()
	return nil
}

// peerTakes reads the peer's number, window and packet size.
func (ch *Channel) peerTakes(r *reader) bool {
	ch.remote, ch.room = r.u32(), int64(r.u32())
	packet := r.u32()
	ch.packet = int(min(packet, maxData))
	return !r.bad && packet >= minPacket
}

// An Incoming is a channel that the peer opens. One of its methods has to be called, once, from anywhere.
type Incoming struct {
	Type     string
	Extra    []byte // what the type wants besides
	ch       *Channel
	answered atomic.Bool
}

var errAnswered = errors.New("the channel has been accepted or rejected already")

func (c *Conn) receiveOpen(r *reader) error {
	kind := r.string()
	ch := &Channel{}
	if !ch.peerTakes(r) || len(r.b) > maxExtra {
		return broken("its request for a channel is malformed")
	}
	remote, room, packet := ch.remote, ch.room, ch.packet
	refuse := func(reason uint32, text string) {
		b := appendU32(appendU32(c.begin(msgChannelRefused), remote), reason)
		c.end(appendString(appendString(b, text), ""))
		c.mark()
	}
	if c.o.Channel == nil {
		refuse(Prohibited, "no channels are opened here")
		return nil
	}
	if c.theirs >= c.o.MaxChannels {
		refuse(ResourceShortage, "too many channels")
		return nil
	}
	if ch = c.newChannel(); ch == nil {
		refuse(ResourceShortage, "too many channels")
		return nil
	}
	ch.remote, ch.room, ch.packet, ch.foreign = remote, room, packet, true
	c.theirs++
	c.o.Channel(&Incoming{Type: kind, Extra: bytes.Clone(r.b), ch: ch})
	return nil
}

// Conn is the connection that the channel is of.
func (in *Incoming) Conn() *Conn { return in.ch.conn }

// Accept opens the channel. onRequest is as with OpenChannel.
func (in *Incoming) Accept(onRequest func(*Request)) (*Channel, error) {
	if in.answered.Swap(true) {
		return nil, errAnswered
	}
	ch := in.ch
	ch.stream = newStream(ch)
	if !ch.conn.post(func() {
		ch.side = ch.stream
		ch.onRequest = onRequest
		ch.confirm()
	}) {
		return nil, ch.conn.closed()
	}
	return ch, nil
}

// confirm opens a channel that the peer asked for.
func (ch *Channel) confirm() {
	c := ch.conn
	if c.ended {
		if ch.side != nil {
			ch.side.gone(c.closed())
		}
		return
	}
	ch.open = true
	b := appendU32(c.begin(msgChannelConfirm), ch.remote)
	b = appendU32(b, ch.local)
	b = appendU32(b, uint32(ch.window))
	c.end(appendU32(b, maxData))
	c.mark()
}

// Reject does not open the channel, and tells the peer why.
func (in *Incoming) Reject(reason uint32, text string) {
	if in.answered.Swap(true) {
		return
	}
	ch := in.ch
	ch.conn.post(func() { ch.refuse(reason, text) })
}

func (ch *Channel) refuse(reason uint32, text string) {
	c := ch.conn
	if c.ended {
		return
	}
	b := appendU32(appendU32(c.begin(msgChannelRefused), ch.remote), reason)
	c.end(appendString(appendString(b, text), ""))
	c.mark()
	ch.release()
}
