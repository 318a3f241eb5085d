package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
)

const (
	lockTimeout = 2 * time.Second

	// A file that another daemon is writing to may look damaged to us, who look before we hold its lock. It does so for
	// the length of one write at most.
	damagedTries = 3
	damagedPause = 100 * time.Millisecond
)

// Open opens the state file at path, and makes it and its directory when they are missing, for this user alone. The file
// is checked from its first page to its last before anything is read from it. Errors are *OpenError.
func Open(path string) (Store, error) {
	db, err := open(path)
	if err == nil {
		return &bolt{db}, nil
	}
	e := &OpenError{Path: path, Err: err}
	switch {
	case errors.Is(err, ErrLocked):
		e.Do = "stop that one first, or give this one a directory of its own with --state"
	case errors.Is(err, ErrDamaged):
		e.Do = "move it away and start again: forwards of the configuration file are not in it, those made with \"fairlead add\" are"
	case errors.Is(err, ErrForeign):
		e.Do = "point --state at another directory, or move that file away"
	case errors.Is(err, fs.ErrPermission):
		e.Do = "run as the user that owns it, or choose a directory with --state"
	}
	return nil, e
}

func open(path string) (db *bbolt.DB, err error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, err
	}
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		err = create(path)
	case err == nil && !info.Mode().IsRegular():
		err = fmt.Errorf("%w: it is not a regular file", ErrForeign)
	}
	if err != nil {
		return nil, err
	}
	for try := 1; ; try++ {
		if err = checkFile(path); err == nil {
			break
		}
		if !errors.Is(err, ErrDamaged) || try == damagedTries {
			return nil, err
		}
		time.Sleep(damagedPause)
	}
	if info != nil && info.Mode().Perm() != 0o600 {
		if err := os.Chmod(path, 0o600); err != nil {
			return nil, err
		}
	}
	// bbolt answers pages that cannot be with a panic. None should be left after the check; should one be, it is an error
	// of this file and no reason to fall over.
	defer func() {
		if r := recover(); r != nil {
			db, err = nil, fmt.Errorf("%w: %v", ErrDamaged, r)
		}
	}()
	db, err = bbolt.Open(path, 0o600, &bbolt.Options{Timeout: lockTimeout})
	switch {
	case errors.Is(err, bolterrors.ErrTimeout):
		err = ErrLocked
	case errors.Is(err, bolterrors.ErrInvalid), errors.Is(err, bolterrors.ErrChecksum), errors.Is(err, bolterrors.ErrVersionMismatch):
		err = fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return db, err
}

// create makes a whole, empty state file appear at path at once: a crash leaves either no file or a good one. When another
// process was faster, its file stays.
func create(path string) error {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, ".new-state-*") // 0600
	if err != nil {
		return err
	}
	tmp := f.Name()
	defer os.Remove(tmp)
	if err := f.Close(); err != nil {
		return err
	}
	db, err := bbolt.Open(tmp, 0o600, &bbolt.Options{Timeout: lockTimeout})
	if err != nil {
		return err
	}
	if err := db.Close(); err != nil {
		return err
	}
	if err := os.Link(tmp, path); err != nil && !errors.Is(err, fs.ErrExist) {
		// A file system without hard links. Two daemons that start at once could then part ways, but one of them would
		// find the ports taken.
		if err := os.Rename(tmp, path); err != nil {
			return err
		}
	}
	return syncDir(dir)
}

// syncDir makes the name of a new file durable, where directories can be opened for that.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	_ = d.Sync() // not every system and file system can; the file itself is on disk either way
	return nil
}

type bolt struct{ db *bbolt.DB }

func (b *bolt) Get(bucket, key string) (value []byte, err error) {
	err = b.db.View(func(tx *bbolt.Tx) error {
		if bk := tx.Bucket([]byte(bucket)); bk != nil {
			value = clone(bk.Get([]byte(key)))
		}
		return nil
	})
	return value, closedError(err)
}

func (b *bolt) Each(bucket string, fn func(key string, value []byte) error) error {
	return closedError(b.db.View(func(tx *bbolt.Tx) error {
		bk := tx.Bucket([]byte(bucket))
		if bk == nil {
			return nil
		}
		return bk.ForEach(func(k, v []byte) error { return fn(string(k), clone(v)) })
	}))
}

func (b *bolt) Update(fn func(Tx) error) error {
	return closedError(b.db.Update(func(tx *bbolt.Tx) error { return fn(boltTx{tx}) }))
}

func (b *bolt) Close() error { return b.db.Close() }

func closedError(err error) error {
	if errors.Is(err, bolterrors.ErrDatabaseNotOpen) {
		return ErrClosed
	}
	return err
}

type boltTx struct{ tx *bbolt.Tx }

func (t boltTx) Put(bucket, key string, value []byte) error {
	if bucket == "" || key == "" {
		return errNoName
	}
	bk, err := t.tx.CreateBucketIfNotExists([]byte(bucket))
	if err != nil {
		return err
	}
	if value == nil {
		value = []byte{}
	}
	return bk.Put([]byte(key), value)
}

func (t boltTx) Delete(bucket, key string) error {
	if bucket == "" || key == "" {
		return errNoName
	}
	if bk := t.tx.Bucket([]byte(bucket)); bk != nil {
		return bk.Delete([]byte(key))
	}
	return nil
}
