package sshnode

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fairlead-net/fairlead/node"
)

func TestBackoff(t *testing.T) {
	b := backoff{first: firstRetry, last: lastRetry}
	want := firstRetry
	for range 10 {
		if got := b.next(); got < want*3/4 || got > want*5/4 {
			t.Errorf("%s, want about %s", got, want)
		}
		want = min(2*want, lastRetry)
	}
	b.reset()
	if got := b.next(); got > firstRetry*5/4 {
		t.Errorf("%s after a reset", got)
	}
}

// TestRetries counts tries on a clock that runs by itself: a node that is not found is tried with backoff, and one that
// somebody has to mend slowly.
func TestRetries(t *testing.T) {
	for _, c := range []struct {
		name        string
		err         error
		least, most int
	}{
		{"away", errors.New("no such host"), 20, 40}, // in ten minutes: each 30 s at the end
		{"refused", &configError{errors.New("nonsense")}, 15, 28},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tries := 0
				n, err := New(node.Spec{Name: "far", SSH: &node.SSH{Target: "me@far", Jump: "jump"}}, Options{
					Through: func(string) (node.Node, error) { return failing{c.err, &tries}, nil },
				})
				if err != nil {
					t.Fatal(err)
				}
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
				defer cancel()
				if err := n.Run(ctx); !errors.Is(err, context.DeadlineExceeded) {
					t.Error(err)
				}
				if tries < c.least || tries > c.most {
					t.Errorf("%d tries, want %d to %d", tries, c.least, c.most)
				}
				if why := n.State().Why; !strings.Contains(why, c.err.Error()) {
					t.Errorf("Why is %q", why)
				}
				if err := n.Run(t.Context()); err == nil {
					t.Error("a node ran twice")
				}
			})
		})
	}
}

// A failing node dials nothing.
type failing struct {
	err   error
	tries *int
}

func (f failing) Dial(context.Context, string, string) (net.Conn, error) {
	*f.tries++
	return nil, f.err
}

func (f failing) Listen(context.Context, string, string) (net.Listener, error) { return nil, f.err }
