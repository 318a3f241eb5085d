package sshwire

import "time"

const (
	acceptTurn  = 16                           // clients that are taken in without a look at anything else
	acceptPause = int64(50 * time.Millisecond) // while the system has no room for one more (accept(2), EMFILE and the like)
)

// A Door is a listening socket in a loop, so that a new client wakes nobody but the loop that will carry it.
type Door struct {
	loop      *Loop
	fd, place int32
	take      func(fd int)
	timer     timer
	closed    bool
}

// Listen has the loop accept the clients of a listening socket that does not block, and which becomes the loop's. take is called
// in the loop, and given a descriptor that does not block. The address of the client is for take to ask for.
func (l *Loop) Listen(fd int, take func(client int)) *Door {
	d := &Door{loop: l, fd: int32(fd), place: -1, take: take}
	if !l.post(d.open) {
		sysClose(d.fd)
	}
	return d
}

func (d *Door) open() {
	var err error
	if d.place, err = d.loop.watch(d.fd, d); err != nil {
		d.place = -1
		d.shut()
	}
}

// Close closes the listening socket, soon. Clients that were taken in are not concerned.
func (d *Door) Close() { d.loop.post(d.shut) }

func (d *Door) shut() {
	if d.closed {
		return
	}
	d.closed = true
	d.loop.timers.clear(&d.timer)
	if d.place >= 0 {
		d.loop.forget(d.place)
	}
	sysClose(d.fd)
}

func (d *Door) ready(uint32) {
	for range acceptTurn {
		client, errno := sysAccept(d.fd)
		switch {
		case errno == errnoAgain:
			return
		case errno == errnoAborted:
		case errno != 0:
			d.loop.timers.set(&d.timer, d, d.loop.now+acceptPause)
			return
		default:
			d.take(int(client))
		}
		if d.closed {
			return
		}
	}
	d.loop.timers.set(&d.timer, d, d.loop.now+1) // in the next turn
}

func (d *Door) expire() { d.ready(0) }
