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
