package api

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fairlead-net/fairlead/config"
	"github.com/fairlead-net/fairlead/forward"
	"github.com/fairlead-net/fairlead/table"
)

// A fakeTable keeps what it is told, and can be made to wait.
type fakeTable struct {
	mu     sync.Mutex
	until  time.Time
	all    map[string]table.Status
	hold   chan struct{} // Put waits for it when it is not nil
	inside chan struct{} // told of every Put that waits
}

func (t *fakeTable) ReplaceFile(_ context.Context, cfg *config.Config) (table.Change, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.until.IsZero() {
		return table.Change{}, &table.PendingError{Until: t.until}
	}
	var c table.Change
	gone := map[string]bool{}
	for name, s := range t.all {
		gone[name] = s.Forward.Origin == forward.OriginFile
	}
	for _, f := range cfg.Forwards {
		old, there := t.all[f.Name]
		delete(gone, f.Name)
		switch {
		case !there:
			c.Added = append(c.Added, f.Name)
		case old.Forward.Equal(f):
			c.Kept++
			continue
		default:
			c.Changed = append(c.Changed, f.Name)
		}
		t.set(f)
	}
	for name, is := range gone {
		if is {
			delete(t.all, name)
			c.Removed = append(c.Removed, name)
		}
	}
	return c, nil
}

func (t *fakeTable) ReplaceUntilConfirmed(ctx context.Context, cfg *config.Config, d time.Duration) (table.Change, error) {
	c, err := t.ReplaceFile(ctx, cfg)
	t.mu.Lock()
	defer t.mu.Unlock()
	if err == nil {
		t.until = time.Now().Add(d)
	}
	return c, err
}

func (t *fakeTable) Confirm(context.Context) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.until.IsZero() {
		return table.ErrNothingPending
	}
	t.until = time.Time{}
	return nil
}

func (t *fakeTable) Pending() (time.Time, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.until, !t.until.IsZero()
}

func (t *fakeTable) set(f *forward.Forward) table.Status {
	if t.all == nil {
		t.all = map[string]table.Status{}
	}
	s := table.Status{Forward: f, Carried: forward.CarryRelay, Why: "the test says so", State: forward.StateUp}
	t.all[f.Name] = s
	return s
}

func (t *fakeTable) Put(ctx context.Context, f *forward.Forward) (table.Status, error) {
	if t.hold != nil {
		t.inside <- struct{}{}
		select {
		case <-t.hold:
		case <-ctx.Done():
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.set(f), nil
}

func (t *fakeTable) Delete(_ context.Context, name string) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, ok := t.all[name]; !ok {
		return fmt.Errorf("%w: %q", table.ErrNotFound, name)
	}
	delete(t.all, name)
	return nil
}

func (t *fakeTable) Snapshot() []table.Status {
	t.mu.Lock()
	defer t.mu.Unlock()
	var out []table.Status
	for _, s := range t.all {
		out = append(out, s)
	}
	slices.SortFunc(out, func(a, b table.Status) int { return strings.Compare(a.Forward.Name, b.Forward.Name) })
	return out
}

// names is what the table holds, for comparing.
func (t *fakeTable) names() string {
	var list []string
	for _, s := range t.Snapshot() {
		list = append(list, s.Forward.Name+"="+s.Forward.To[0].String())
	}
	return strings.Join(list, " ")
}

type fakeSessions []forward.Session

func (s fakeSessions) Sessions(name string) (list []forward.Session, err error) {
	for _, one := range s {
		if name == "" || one.Forward == name {
			list = append(list, one)
		}
	}
	return list, nil
}

func (s fakeSessions) Kill(id string) error {
	if !slices.ContainsFunc(s, func(one forward.Session) bool { return one.ID == id }) {
		return fmt.Errorf("%w: %q", ErrNoSession, id)
	}
	return nil
}

// fakeLeases knows what it approves and denies by name.
type fakeLeases map[string][]string

func (l fakeLeases) Approve(_ context.Context, which string) (Judged, error) {
	names, ok := l[which]
	if !ok {
		return Judged{}, fmt.Errorf("%q is %w", which, ErrNoLease)
	}
	return Judged{names, names == nil}, nil
}

func (l fakeLeases) Deny(ctx context.Context, which string) (Judged, error) {
	return l.Approve(ctx, which)
}

func (l fakeLeases) Verdicts() []Verdict {
	var list []Verdict
	for _, which := range slices.Sorted(maps.Keys(l)) {
		list = append(list, Verdict{Device: which, Verdict: "denied"})
	}
	return list
}

func (l fakeLeases) Forget(_ context.Context, which string) ([]Verdict, error) {
	if _, err := l.Approve(context.Background(), which); err != nil {
		return nil, err
	}
	return []Verdict{{Device: which, Network: "udp", Port: 3074, Verdict: "approved"}}, nil
}

// socketPath is short enough for sockaddr_un, which t.TempDir need not be.
func socketPath(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "fl")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return filepath.Join(dir, "fairlead", "s")
}

// serve runs a server for the length of the test and returns its socket.
func serve(t *testing.T, o Options) string {
	t.Helper()
	path := socketPath(t)
	ln, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	startServer(t, o, ln)
	return path
}

func startServer(t *testing.T, o Options, ln net.Listener) (ended chan error) {
	t.Helper()
	o.Log = slog.New(slog.DiscardHandler)
	if o.Sessions == nil {
		o.Sessions = fakeSessions{}
	}
	if o.Leases == nil {
		o.Leases = fakeLeases{}
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended = make(chan error, 1)
	go func() { ended <- NewServer(o).Run(ctx, ln) }()
	t.Cleanup(func() {
		cancel()
		select {
		case err := <-ended:
			if err != nil {
				t.Errorf("Run: %v", err)
			}
			ended <- nil
		case <-time.After(10 * time.Second):
			t.Error("Run did not return after its context ended")
		}
	})
	return ended
}

func mustForward(t testing.TB, name, listen, to string) *forward.Forward {
	t.Helper()
	l, err := forward.ParseListen(listen)
	if err != nil {
		t.Fatal(err)
	}
	target, err := forward.ParseTarget(to)
	if err != nil {
		t.Fatal(err)
	}
	return &forward.Forward{Name: name, Origin: forward.OriginFile, Listen: l, To: []forward.Target{target}}
}
