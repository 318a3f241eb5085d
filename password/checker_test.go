package password

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// cheap is a hash of "password" that costs little.
const cheap = "$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4"

var here, there = netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")

// took is how long a check takes on the clock of the bubble, where only waiting takes time.
func took(t *testing.T, c *Checker, from netip.Addr, known bool, user, password string, want error) time.Duration {
	t.Helper()
	start := time.Now()
	if err := c.Check(t.Context(), from, cheap, known, user, password); !errors.Is(err, want) {
		t.Errorf("%s from %s: %v, want %v", user, from, err, want)
	}
	return time.Since(start)
}

func bubble(t *testing.T, test func(t *testing.T, c *Checker)) {
	synctest.Test(t, func(t *testing.T) {
		c := NewChecker()
		c.like = cheap
		test(t, c)
	})
}

func TestCheck(t *testing.T) {
	bubble(t, func(t *testing.T, c *Checker) {
		for _, test := range []struct {
			hash, user, password string
			known                bool
			want                 error
		}{
			{cheap, "joe", "password", true, nil},
			{cheap, "joe", "password", true, nil},
			{cheap, "joe", "wrong", true, ErrWrong},
			{cheap, "ann", "wrong", true, ErrWrong},
			{cheap, "joe", "password", false, ErrWrong},
			{"", "nobody", "password", false, ErrWrong},
			{"rubbish", "joe", "password", true, ErrHash},
			{"$argon2id$v=19$m=256,t=2,p=2$c29tZXNhbHQ$bQk8UB/VmZZF4Oo79iDXuL5/0ttZwg2f/5U52iv1cDc", "joe", "password", true, nil},
		} {
			if err := c.Check(t.Context(), here, test.hash, test.known, test.user, test.password); !errors.Is(err, test.want) {
				t.Errorf("%+v: %v", test, err)
			}
		}
	})
}

// TestRemembers takes every slot away, so that only what is remembered is answered.
func TestRemembers(t *testing.T) {
	bubble(t, func(t *testing.T, c *Checker) {
		took(t, c, here, true, "joe", "password", nil)
		for range maxAtOnce {
			c.slots <- struct{}{}
		}
		took(t, c, here, true, "joe", "password", nil)
		took(t, c, there, true, "joe", "password", nil)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		other := "$2b$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW"
		if err := c.Check(ctx, here, other, true, "joe", "password"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("with another hash: %v", err)
		}
		if len(c.right) != 0 {
			t.Error("the old hash is remembered")
		}
	})
}

func TestSlows(t *testing.T) {
	bubble(t, func(t *testing.T, c *Checker) {
		want := time.Duration(0)
		for i := range 12 {
			if got := took(t, c, here, i%2 == 0, fmt.Sprint("user", i), "wrong", ErrWrong); got != want {
				t.Errorf("guess %d took %s, want %s", i, got, want)
			}
			want = min(max(2*want, firstDelay), maxDelay)
		}
		if got := took(t, c, there, true, "joe", "password", nil); got != 0 {
			t.Errorf("another source waited %s", got)
		}
		// Being right once does not make up for guesses at others.
		if got := took(t, c, here, true, "joe", "password", nil); got != maxDelay {
			t.Errorf("the same source waited %s", got)
		}
		took(t, c, here, true, "ann", "wrong", ErrWrong)
		if got := took(t, c, here, true, "joe", "password", nil); got != 0 {
			t.Errorf("who was right before waited %s", got)
		}
		took(t, c, here, true, "joe", "wrong", ErrWrong)
		if got := took(t, c, here, true, "joe", "password", nil); got != firstDelay {
			t.Errorf("who was wrong once waited %s", got)
		}
		time.Sleep(forgetting + time.Second)
		if got := took(t, c, here, true, "ann", "wrong", ErrWrong); got != 0 {
			t.Errorf("after a while: %s", got)
		}
	})
}

// TestOneMistake is taken back by being right.
func TestOneMistake(t *testing.T) {
	bubble(t, func(t *testing.T, c *Checker) {
		took(t, c, here, true, "joe", "wrong", ErrWrong)
		took(t, c, here, true, "joe", "wrong", ErrWrong)
		if got := took(t, c, here, true, "joe", "password", nil); got != 2*firstDelay {
			t.Errorf("waited %s", got)
		}
		if got := took(t, c, here, false, "ann", "password", ErrWrong); got != 0 {
			t.Errorf("somebody else waited %s", got)
		}
	})
}

// TestGuessesAtOnce sends many guesses at the same time, and goes away before they are answered: they count all the same, so
// that the right one among them is not found faster.
func TestGuessesAtOnce(t *testing.T) {
	for _, known := range []bool{true, false} {
		bubble(t, func(t *testing.T, c *Checker) {
			if known { // what is remembered is the fastest to guess at
				took(t, c, there, true, "joe", "password", nil)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			defer cancel()
			var all sync.WaitGroup
			var mu sync.Mutex
			answered := 0
			for i := range 200 {
				all.Go(func() {
					err := c.Check(ctx, here, cheap, true, "joe", fmt.Sprint("guess", i))
					mu.Lock()
					defer mu.Unlock()
					if errors.Is(err, ErrWrong) {
						answered++
					}
				})
			}
			all.Wait()
			if answered > 20 { // two at once, at 0, 0.2, 0.8, 3.2 s and so on, and one more each where they meet
				t.Errorf("%d guesses were answered", answered)
			}
			began := time.Now()
			if err := c.Check(t.Context(), here, cheap, true, "joe", "password"); err != nil || time.Since(began) == 0 {
				t.Errorf("the right one after all of them: %v, after %s", err, time.Since(began))
			}
		})
	}
}

func TestSourceOf(t *testing.T) {
	for _, test := range []struct{ in, want string }{
		{"192.0.2.1", "192.0.2.1"}, {"::ffff:192.0.2.1", "192.0.2.1"}, {"2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"}, {"fe80::1%eth0", "fe80::"},
	} {
		if got := sourceOf(netip.MustParseAddr(test.in)).String(); got != test.want {
			t.Errorf("%s: %s, want %s", test.in, got, test.want)
		}
	}
	if got := sourceOf(netip.Addr{}); got.IsValid() {
		t.Errorf("none: %s", got)
	}
}

func TestTablesAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s slowness
		for i := range maxSources + 100 {
			from := netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)})
			s.wrong(from, "joe")
			time.Sleep(time.Millisecond)
		}
		if len(s.sources) != maxSources || s.sources[netip.AddrFrom4([4]byte{10, 0, 0, 0})] != nil {
			t.Errorf("%d sources", len(s.sources))
		}
		s.right(netip.AddrFrom4([4]byte{10, 0, 16, 0}), "good")
		for i := range 1000 {
			s.wrong(netip.AddrFrom4([4]byte{10, 0, 16, 0}), fmt.Sprint(i))
		}
		src := s.sources[netip.AddrFrom4([4]byte{10, 0, 16, 0})]
		if len(src.users) != maxUsers || src.wrong != 1001 || src.users["good"] == nil {
			t.Errorf("%d users, %d guesses", len(src.users), src.wrong)
		}
		c := NewChecker()
		for i := range maxRemembered + 10 {
			c.remember(fmt.Sprint(i), cheap, "x")
		}
		if len(c.right) != maxRemembered {
			t.Errorf("%d are remembered", len(c.right))
		}
	})
}
