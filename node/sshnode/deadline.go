package sshnode

import (
	"errors"
	"sync"
	"time"
)

// errReset is what is written after the far end has closed the channel.
var errReset = errors.New("the far end closed the connection")

// A deadline closes a channel when it has passed. Setting it anew takes effect for those who wait already.
type deadline struct {
	mu      sync.Mutex
	timer   *time.Timer
	expired chan struct{}
}

func (d *deadline) init() { d.expired = make(chan struct{}) }

// wait returns what is closed at the deadline.
func (d *deadline) wait() <-chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.expired
}

func (d *deadline) set(t time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.timer != nil && !d.timer.Stop() {
		<-d.expired // it has fired and is closing the channel, or has closed it
	}
	d.timer = nil
	past := false
	select {
	case <-d.expired:
		past = true
	default:
	}
	switch left := time.Until(t); {
	case t.IsZero():
		if past {
			d.expired = make(chan struct{})
		}
	case left <= 0:
		if !past {
			close(d.expired)
		}
	default:
		if past {
			d.expired = make(chan struct{})
		}
		expired := d.expired
		d.timer = time.AfterFunc(left, func() { close(expired) })
	}
}
