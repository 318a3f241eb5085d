package store

import (
	"maps"
	"slices"
	"sync"
)

// Memory returns a Store that lives as long as the process: for a forward in the foreground, and for tests.
func Memory() Store { return &memory{buckets: map[string]map[string][]byte{}} }

type memory struct {
	mu      sync.RWMutex
	buckets map[string]map[string][]byte
	closed  bool
}

func (m *memory) Get(bucket, key string) ([]byte, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if m.closed {
		return nil, ErrClosed
	}
	return clone(m.buckets[bucket][key]), nil
}

func (m *memory) Each(bucket string, fn func(key string, value []byte) error) error {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if m.closed {
		return ErrClosed
	}
	for _, key := range slices.Sorted(maps.Keys(m.buckets[bucket])) {
		if err := fn(key, clone(m.buckets[bucket][key])); err != nil {
			return err
		}
	}
	return nil
}

func (m *memory) Update(fn func(Tx) error) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return ErrClosed
	}
	var tx memoryTx
	if err := fn(&tx); err != nil {
		return err
	}
	for _, w := range tx.writes {
		if w.value == nil {
			delete(m.buckets[w.bucket], w.key)
			continue
		}
		if m.buckets[w.bucket] == nil {
			m.buckets[w.bucket] = map[string][]byte{}
		}
		m.buckets[w.bucket][w.key] = w.value
	}
	return nil
}

func (m *memory) Close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.closed = true
	return nil
}

// A memoryTx collects the writes of one Update, so that one that fails leaves nothing behind.
type memoryTx struct{ writes []memoryWrite }

type memoryWrite struct {
	bucket, key string
	value       []byte // nil deletes
}

func (tx *memoryTx) Put(bucket, key string, value []byte) error {
	if bucket == "" || key == "" {
		return errNoName
	}
	tx.writes = append(tx.writes, memoryWrite{bucket, key, append([]byte{}, value...)})
	return nil
}

func (tx *memoryTx) Delete(bucket, key string) error {
	if bucket == "" || key == "" {
		return errNoName
	}
	tx.writes = append(tx.writes, memoryWrite{bucket, key, nil})
	return nil
}

// clone keeps the difference between an empty value and none.
func clone(b []byte) []byte {
	if b == nil {
		return nil
	}
	return append([]byte{}, b...)
}
