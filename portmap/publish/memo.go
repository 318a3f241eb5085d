package publish

import "context"

// A memo is what is found out once, by whoever asks first, while others wait.
type memo[T any] struct {
	lock  chan struct{} // capacity 1: a lock that can be waited for with a context
	known bool
	value T
}

func newMemo[T any]() *memo[T] { return &memo[T]{lock: make(chan struct{}, 1)} }

// get is what find found the first time. An error is not kept.
func (m *memo[T]) get(ctx context.Context, find func(context.Context) (T, error)) (T, error) {
	select {
	case m.lock <- struct{}{}:
	case <-ctx.Done():
		var none T
		return none, ctx.Err()
	}
	defer func() { <-m.lock }()
	if m.known {
		return m.value, nil
	}
	v, err := find(ctx)
	if err == nil {
		m.value, m.known = v, true
	}
	return v, err
}

// peek is what is known, without finding out.
func (m *memo[T]) peek(ctx context.Context) (T, bool) {
	known := true
	v, err := m.get(ctx, func(context.Context) (v T, err error) {
		known = false
		return v, context.Canceled
	})
	return v, known && err == nil
}

// forget has the next get find out again. Who is finding out now is not waited for by anybody but here.
func (m *memo[T]) forget() {
	m.lock <- struct{}{}
	var none T
	m.value, m.known = none, false
	<-m.lock
}
