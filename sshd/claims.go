package sshd

import "sync"

// claims knows which listeners the clients of each key have, so that a key has no more than it may. A listener that is taken
// over from a dead client of the same key counts once.
type claims struct {
	most int
	mu   sync.Mutex
	of   map[string]map[string]*client // by key and place
}

func newClaims(most int) *claims { return &claims{most: most, of: map[string]map[string]*client{}} }

// take claims a place for a client, if its key may have one more. undo leaves it to whoever had it before.
func (l *claims) take(key, place string, c *client) (undo func(), ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	before, again := l.of[key][place]
	if !again && len(l.of[key]) >= l.most {
		return nil, false
	}
	if l.of[key] == nil {
		l.of[key] = map[string]*client{}
	}
	l.of[key][place] = c
	return func() {
		if !l.handBack(key, place, c, before) {
			l.giveBack(key, place, c)
		}
	}, true
}

// handBack reports whether the client before is still there to have its claim again.
func (l *claims) handBack(key, place string, c, before *client) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if before == nil || !before.node.has(place) || l.of[key][place] != c {
		return false
	}
	l.of[key][place] = before
	return true
}

// giveBack ends a claim, unless another client of the key has taken it over.
func (l *claims) giveBack(key, place string, c *client) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.of[key][place] != c {
		return
	}
	if delete(l.of[key], place); len(l.of[key]) == 0 {
		delete(l.of, key)
	}
}
