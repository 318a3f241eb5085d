package password

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"runtime/debug"
	"sync"
	"time"
)

// Bounds of a Checker.
const (
	maxAtOnce     = 2    // hashes are derived at once: each takes memory, and a core
	maxRemembered = 1024 // users whose password was right

	quiet = time.Second // without a hash, before memory is given back
)

// ErrWrong is the error of a wrong password and of a user that there is not; nothing tells one from the other.
var ErrWrong = errors.New("wrong name or password")

// decoy takes the place of the hash of a user that there is not. It has the costs of Hash, and is of no password.
const decoy = "$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHRzYWx0c2FsdA$AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8"

// A Checker checks the passwords of clients who log in for each connection. A password that was right is remembered, by a
// keyed digest that means nothing to anybody else, until the hash is another one. Sources that guess wrong have to wait ever
// longer. It may be used by several goroutines.
type Checker struct {
	key   [32]byte      // of this process, for what is remembered
	slots chan struct{} // of hashes derived at once
	slow  slowness

	mu    sync.Mutex
	right map[string]remembered // by user
	like  string                // the last hash that was verified: what a decoy has to look like
	idle  *time.Timer           // see letGo; nil before the first hash
}

// remembered is a password that was right.
type remembered struct {
	hash   string
	digest [sha256.Size]byte
}

// NewChecker returns a Checker that remembers nothing.
func NewChecker() *Checker {
	c := &Checker{slots: make(chan struct{}, maxAtOnce), right: map[string]remembered{}, like: decoy}
	rand.Read(c.key[:]) // it never fails
	return c
}

// Check checks the password of a user who calls from source, against the hash of that user; known is false for a user that
// there is not, who costs the same time. It returns nil, ErrWrong, ErrHash, or the error of ctx when that ended first.
func (c *Checker) Check(ctx context.Context, source netip.Addr, hash string, known bool, user, password string) error {
	source = sourceOf(source)
	for {
		if err := c.slow.wait(ctx, source, user); err != nil {
			return err
		}
		found, right := false, false
		if known {
			found, right = c.recall(user, hash, password)
		}
		if right {
			c.slow.right(source, user)
			return nil
		}
		if found {
			// There is one right password, and this is another. That counts before the time is spent that hides it: nobody
			// guesses faster by not waiting for the answer.
			c.slow.wrong(source, user)
		}
		select {
		case c.slots <- struct{}{}:
		case <-ctx.Done():
			return ctx.Err()
		}
		if !found && c.slow.due(source, user) > 0 {
			<-c.slots // the same source has guessed wrong meanwhile
			continue
		}
		ok, err := Verify(c.against(hash, known), password)
		<-c.slots
		c.letGo()
		switch {
		case err != nil:
			return fmt.Errorf("user %q: %w", user, err)
		case known && ok && !found:
			c.remember(user, hash, password)
			c.slow.right(source, user)
			return nil
		case !found:
			c.slow.wrong(source, user)
		}
		return ErrWrong
	}
}

// letGo gives the memory that hashes are derived in back to the system, once nobody has derived one for a moment: that is
// many times what the rest of a small daemon takes, and the collector would keep it for minutes.
func (c *Checker) letGo() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.idle == nil {
		c.idle = time.AfterFunc(quiet, debug.FreeOSMemory)
	} else {
		c.idle.Reset(quiet)
	}
}

// against is the hash to verify: of a user that there is not it is one that takes as long as those of the others.
func (c *Checker) against(hash string, known bool) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !known {
		return c.like
	}
	if Validate(hash) == nil {
		c.like = hash
	}
	return hash
}

// recall looks a password up among those that were right: found says that there is one for this user and this hash.
func (c *Checker) recall(user, hash, password string) (found, right bool) {
	digest := c.digest(user, hash, password)
	c.mu.Lock()
	defer c.mu.Unlock()
	r, ok := c.right[user]
	if ok && r.hash != hash {
		delete(c.right, user)
		ok = false
	}
	return ok, ok && hmac.Equal(r.digest[:], digest[:])
}

func (c *Checker) remember(user, hash, password string) {
	r := remembered{hash, c.digest(user, hash, password)}
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.right[user]; !ok && len(c.right) >= maxRemembered {
		for other := range c.right { // any one: who comes again is verified again
			delete(c.right, other)
			break
		}
	}
	c.right[user] = r
}

// digest is what is remembered of a password.
func (c *Checker) digest(user, hash, password string) (sum [sha256.Size]byte) {
	mac := hmac.New(sha256.New, c.key[:])
	for _, s := range []string{user, hash, password} {
		var size [8]byte
		binary.BigEndian.PutUint64(size[:], uint64(len(s)))
		mac.Write(size[:])
		mac.Write([]byte(s))
	}
	mac.Sum(sum[:0])
	return sum
}
