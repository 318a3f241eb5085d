// Package store keeps what must outlive the daemon: forwards that were added to it while it ran, counters, and later
// leases and keys.
//
// It holds named buckets of keys and bytes and knows nothing of what they mean; what is kept, and in which encoding, is
// the business of whoever keeps it. Open is the embedded default, one file; Memory forgets at the end of the process.
package store

import "errors"

// A Store is durable state. All methods are safe for concurrent use. A bucket that was never written to is empty.
type Store interface {
	// Get returns the value of key, the caller's to keep, or nil when there is none.
	Get(bucket, key string) ([]byte, error)
	// Each calls fn for every key of bucket in ascending order and stops at its first error, which it returns. What fn is
	// given is its to keep; fn must not call the store.
	Each(bucket string, fn func(key string, value []byte) error) error
	// Update runs fn and keeps everything it wrote, or, when fn or the write fails, nothing of it. When it returns nil,
	// the change outlives a crash of the process and of the machine. fn must not call the store.
	Update(fn func(Tx) error) error
	// Close waits for running calls and gives the state back to the next process. Later calls fail with ErrClosed.
	Close() error
}

// A Tx is one change of a store, valid only inside Update. Keys and buckets have names of at least one byte.
type Tx interface {
	Put(bucket, key string, value []byte) error
	Delete(bucket, key string) error // no error when there is nothing to delete
}

// What makes Open fail for a reason that the operator can act on. Any other error comes from the file system.
var (
	ErrLocked  = errors.New("another fairlead daemon is using it")
	ErrDamaged = errors.New("it is damaged")
	ErrForeign = errors.New("it is not a fairlead state file")
)

// ErrClosed is returned by every call after Close.
var ErrClosed = errors.New("the state file is closed")

var errNoName = errors.New("a bucket and a key need a name")

// An OpenError says why the state file cannot be used, and what to do.
type OpenError struct {
	Path string
	Err  error  // wraps ErrLocked, ErrDamaged, ErrForeign or the error of the file system
	Do   string // what to do about it, or ""
}

func (e *OpenError) Error() string { return "state file " + e.Path + ": " + e.Err.Error() }

// Advice is what to do about e, or "".
func (e *OpenError) Advice() string { return e.Do }

func (e *OpenError) Unwrap() error { return e.Err }
