package sshwire

import (
	"bytes"
	"context"
	"sync/atomic"
)

// Of the peer's requests as many may wait for their replies, with as much in each; nobody needs more.
const (
	mostUnanswered = 1024 // of the whole connection
	mostPayload    = 32 << 10
)

// A Request is a global request (RFC 4254, section 4), or one of a channel (section 5.4).
type Request struct {
	Type      string
	WantReply bool
	Payload   []byte

	conn     *Conn
	channel  *Channel // nil: global
	answered atomic.Bool
	ready    bool // of the loop
	ok       bool
	data     []byte
}

// replies are requests of the peer's in their order, which is that of the replies.
type replies []*Request

// Conn is the connection that the request came by.
func (r *Request) Conn() *Conn { return r.conn }

// Reply answers a request, if it wants a reply; data is for global requests only. It may be called from anywhere.
func (r *Request) Reply(ok bool, data []byte) {
	if !r.WantReply || r.answered.Swap(true) {
		return
	}
	r.conn.post(func() {
		r.ready, r.ok, r.data = true, ok, data
		r.conn.reply(r.queue())
	})
}

func (r *Request) queue() *replies {
	if r.channel != nil {
		return &r.channel.replies
	}
	return &r.conn.replies
}

// reply sends the replies that are ready, up to the first that is not.
func (c *Conn) reply(queue *replies) {
	for len(*queue) > 0 && (*queue)[0].ready && !c.ended {
		r := (*queue)[0]
		*queue = (*queue)[1:]
		c.unanswered--
		switch {
		case r.channel == nil && r.ok:
			c.end(append(c.begin(msgGlobalSuccess), r.data...))
		case r.channel == nil:
			c.end(c.begin(msgGlobalFailure))
		case r.channel.sentClose:
		case r.ok:
			r.channel.simple(msgChannelSuccess)
		default:
			r.channel.simple(msgChannelFailure)
		}
		c.mark()
	}
}

func (c *Conn) receiveGlobal(r *reader) error {
	req := &Request{Type: r.string(), WantReply: r.bool(), Payload: bytes.Clone(r.b), conn: c}
	if r.bad {
		return broken("a global request is malformed")
	}
	return c.handle(req, c.o.Request)
}

func (ch *Channel) receiveRequest(r *reader) error {
	req := &Request{Type: r.string(), WantReply: r.bool(), Payload: bytes.Clone(r.b), conn: ch.conn, channel: ch}
	if r.bad {
		return broken("a request for the channel %d is malformed", ch.local)
	}
	if ch.sentClose {
		return nil
	}
	return ch.conn.handle(req, ch.onRequest)
}

func (c *Conn) handle(req *Request, handler func(*Request)) error {
	if len(req.Payload) > mostPayload {
		return broken("a request of %d bytes", len(req.Payload))
	}
	queue := req.queue()
	if req.WantReply {
		if c.unanswered >= mostUnanswered {
			return broken("it asks and asks")
		}
		c.unanswered++
		*queue = append(*queue, req)
	}
	if handler != nil {
		handler(req)
	} else if req.WantReply {
		req.answered.Store(true)
		req.ready = true
		c.reply(queue)
	}
	return nil
}

// SendRequest makes a global request. Without wantReply it returns at once.
func (c *Conn) SendRequest(ctx context.Context, name string, wantReply bool, payload []byte) (ok bool, data []byte, err error) {
	return c.request(ctx, wantReply, func(done func(bool, []byte)) bool {
		b := appendBool(appendString(c.begin(msgGlobalRequest), name), wantReply)
		c.end(append(b, payload...))
		if wantReply {
			c.waiting = append(c.waiting, done)
		}
		return true
	})
}

// SendRequest makes a request in the channel. Without wantReply it returns at once.
func (ch *Channel) SendRequest(ctx context.Context, name string, wantReply bool, payload []byte) (bool, error) {
	c := ch.conn
	ok, _, err := c.request(ctx, wantReply, func(done func(bool, []byte)) bool {
		if ch.sentClose || ch.gotClose {
			return false
		}
		b := appendString(appendU32(c.begin(msgChannelRequest), ch.remote), name)
		c.end(append(appendBool(b, wantReply), payload...))
		if wantReply {
			ch.waiting = append(ch.waiting, done)
		}
		return true
	})
	return ok, err
}

// request has the loop send a request, and waits for the reply.
func (c *Conn) request(ctx context.Context, wantReply bool, send func(done func(bool, []byte)) bool) (bool, []byte, error) {
	type result struct {
		ok   bool
		data []byte
		err  error
	}
	answer := make(chan result, 1)
	if !c.post(func() {
		if c.ended {
			answer <- result{err: c.closed()}
			return
		}
		done := func(ok bool, data []byte) {
			r := result{ok: ok, data: bytes.Clone(data)}
			if c.ended {
				r.err = c.closed()
			}
			answer <- r
		}
		if !send(done) {
			answer <- result{err: errChannelClosed}
			return
		}
		c.mark()
		if !wantReply {
			answer <- result{ok: true}
		}
	}) {
		return false, nil, c.closed()
	}
	if !wantReply {
		return true, nil, nil
	}
	select {
	case r := <-answer:
		return r.ok, r.data, r.err
	case <-ctx.Done():
		return false, nil, ctx.Err()
	}
}
