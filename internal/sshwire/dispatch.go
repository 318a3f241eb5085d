package sshwire

// dispatch takes one message other than data in sequence.
func (c *Conn) dispatch(p []byte) error {
	handled, err := c.transport.receive(p)
	if p[0] >= msgKexInit && p[0] < msgAuthRequest {
		c.keyed = c.loop.now // or soon will be
		c.schedule()
		c.mark() // what was held back can go on
	}
	if err != nil || handled {
		return err
	}
	r := reader{b: p[1:]}
	switch p[0] {
	case msgPing:
		data := r.bytes()
		if !r.end() {
			return broken("a ping is malformed")
		}
		c.end(appendString(c.begin(msgPong), data))
		c.mark()
	case msgPong:
	case msgGlobalRequest:
		return c.receiveGlobal(&r)
	case msgGlobalSuccess, msgGlobalFailure:
		if len(c.waiting) == 0 {
			return broken("a reply to a global request that was not made")
		}
		done := c.waiting[0]
		c.waiting = c.waiting[1:]
		done(p[0] == msgGlobalSuccess, r.b)
	case msgChannelOpen:
		return c.receiveOpen(&r)
	case msgChannelConfirm, msgChannelRefused:
		return c.receiveOpened(p[0], &r)
	case msgChannelWindow, msgChannelStderr, msgChannelEOF, msgChannelClose, msgChannelRequest, msgChannelSuccess, msgChannelFailure:
		id := r.u32()
		ch := c.channel(id)
		if !r.bad && ch == nil && p[0] == msgChannelWindow {
			return nil // some peers grant more to a channel that is closed
		}
		if r.bad || ch == nil || !ch.open {
			return broken("message %d for the channel %d, which is not open", p[0], id)
		}
		return ch.receive(p[0], &r)
	case msgChannelData: // while keys are exchanged
		ch, data, err := c.dataOf(p)
		if err != nil || ch == nil {
			return err
		}
		ch.side.take([][]byte{data}, len(data))
	default:
		c.unimplemented()
		c.mark()
	}
	return nil
}
