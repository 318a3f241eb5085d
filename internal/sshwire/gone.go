package sshwire

// WhenGone has done called once the channel is gone: both ends have closed it, or the connection has ended. It is called in the
// loop, unless the connection had ended before, and must not wait for anything.
func (ch *Channel) WhenGone(done func()) {
	if !ch.conn.post(func() {
		if ch.gone {
			done()
			return
		}
		ch.whenGone = append(ch.whenGone, done)
	}) {
		done()
	}
}

// depart is called when the channel is gone.
func (ch *Channel) depart() {
	ch.gone = true
	list := ch.whenGone
	ch.whenGone = nil
	for _, done := range list {
		done()
	}
}

// WriteStderr sends text as extended data (RFC 4254, section 5.2), as far as the peer takes it now.
func (ch *Channel) WriteStderr(text string) {
	ch.conn.post(func() {
		c := ch.conn
		if !ch.open || ch.sentEOF || ch.sentClose || c.ended {
			return
		}
		text = text[:min(len(text), ch.packet, int(ch.room))]
		ch.room -= int64(len(text))
		b := appendU32(appendU32(c.begin(msgChannelStderr), ch.remote), extendedStderr)
		c.end(appendString(b, text))
		c.mark()
	})
}

const extendedStderr = 1 // SSH_EXTENDED_DATA_STDERR
