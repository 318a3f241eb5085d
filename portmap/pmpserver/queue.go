package pmpserver

import (
	"context"
	"net/netip"
	"sync"
)

const (
	queueTotal  = 4096 // requests that wait, of all clients
	queueClient = 2048 // and of one
	askBatch    = 512  // requests that the Desk is asked for at once
)

// A queue holds the requests that wait for the Desk. Clients take turns, so that one that asks for thousands does not make another
// wait for all of them; those of one client keep their order.
type queue struct {
	wake chan struct{} // holds one token while there may be something

	mu    sync.Mutex
	lines map[netip.Addr]*line
	turns []*line // who has something waiting, in the order of their turns
	total int
	known map[seal]struct{} // what waits or is being answered
}

// A line is what waits of one client.
type line struct {
	client netip.Addr
	asks   []*ask
}

// A seal tells a repeated message from a new one: a client that waits asks again, and is answered once.
type seal struct {
	from netip.AddrPort
	hash uint64
}

func newQueue() *queue {
	return &queue{wake: make(chan struct{}, 1), lines: map[netip.Addr]*line{}, known: map[seal]struct{}{}}
}

// put reports false when there is no room. What is waiting already is not put again.
func (q *queue) put(a *ask) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if _, ok := q.known[a.seal]; ok {
		return true
	}
	client := a.seal.from.Addr()
	l := q.lines[client]
	if l != nil && len(l.asks) >= queueClient || q.total >= queueTotal && !q.makeRoom(l) {
		return false
	}
	if l == nil {
		l = &line{client: client}
		q.lines[client] = l
		q.turns = append(q.turns, l)
	}
	l.asks = append(l.asks, a)
	q.total++
	q.known[a.seal] = struct{}{}
	select {
	case q.wake <- struct{}{}:
	default:
	}
	return true
}

// makeRoom takes the last request of the longest line away, for a client with a shorter one. Callers hold the lock.
func (q *queue) makeRoom(mine *line) bool {
	longest := q.turns[0]
	for _, l := range q.turns {
		if len(l.asks) > len(longest.asks) {
			longest = l
		}
	}
	have := 0
	if mine != nil {
		have = len(mine.asks)
	}
	last := len(longest.asks) - 1
	if last <= have {
		return false
	}
	delete(q.known, longest.asks[last].seal)
	longest.asks = longest.asks[:last]
	q.total--
	return true
}

// take appends up to askBatch requests to asks, and waits for the first. It returns nothing more when ctx ends. Their seals stay until
// done.
func (q *queue) take(ctx context.Context, asks []*ask) []*ask {
	for {
		if asks = q.drain(asks); len(asks) > 0 {
			return asks
		}
		select {
		case <-ctx.Done():
			return nil
		case <-q.wake:
		}
	}
}

func (q *queue) drain(asks []*ask) []*ask {
	q.mu.Lock()
	defer q.mu.Unlock()
	for room := askBatch - len(asks); room > 0 && len(q.turns) > 0; room = askBatch - len(asks) {
		each := max(1, room/len(q.turns))
		served := min(room, len(q.turns))
		rest := append([]*line(nil), q.turns[served:]...)
		for _, l := range q.turns[:served] {
			n := min(each, len(l.asks))
			asks = append(asks, l.asks[:n]...)
			l.asks = l.asks[n:]
			q.total -= n
			if len(l.asks) > 0 {
				rest = append(rest, l)
			} else {
				delete(q.lines, l.client)
			}
		}
		q.turns = rest
	}
	return asks
}

// done says that a request is answered. The same one is a new one then.
func (q *queue) done(a *ask) {
	q.mu.Lock()
	defer q.mu.Unlock()
	delete(q.known, a.seal)
}

// clear forgets everything.
func (q *queue) clear() {
	q.mu.Lock()
	defer q.mu.Unlock()
	clear(q.lines)
	clear(q.known)
	q.turns, q.total = nil, 0
}
