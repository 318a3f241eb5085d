package grant

import (
	"slices"
	"strings"
	"time"

	"github.com/fairlead-net/fairlead/forward"
	"github.com/fairlead-net/fairlead/portmap"
)

// maxNews is the most leases of which their clients are to be told; others learn it when they renew.
const maxNews = 4096

// news is what befell leases that their clients did not ask for. It is guarded by the Book.
type news struct {
	more    chan struct{} // capacity 1
	list    map[string]piece
	leaving map[string]bool // their own clients end them
}

// A piece is what is new of a lease.
type piece struct {
	f    *forward.Forward
	gone bool
}

func newNews() news {
	return news{more: make(chan struct{}, 1), list: map[string]piece{}, leaving: map[string]bool{}}
}

// note looks whether a change of a lease is news for its client: the operator or the policy ended it, or it is reached elsewhere. What the
// client did itself it knows, and when its lease ends, too.
func (n *news) note(now, before *forward.Forward) {
	if before == nil || before.Lease == nil || protocolOf(before) != portmap.PCP {
		return
	}
	switch {
	case now == nil && n.leaving[before.Name]:
		delete(n.leaving, before.Name)
	case now == nil && (before.Expires.IsZero() || time.Now().Before(before.Expires)):
		n.add(before, true)
	case now != nil && !now.Listen.Equal(before.Listen):
		n.add(now, false)
	}
}

func (n *news) add(f *forward.Forward, gone bool) {
	if _, there := n.list[f.Name]; !there && len(n.list) >= maxNews {
		return
	}
	n.list[f.Name] = piece{f, gone}
	select {
	case n.more <- struct{}{}:
	default:
	}
}

// leave says that clients end leases of theirs, or with false that they do not after all.
func (b *Book) leave(list []*forward.Forward, leave bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, f := range list {
		if delete(b.news.leaving, f.Name); leave && protocolOf(f) == portmap.PCP && b.byName[f.Name] != nil {
			b.news.leaving[f.Name] = true
		}
	}
}

// elsewhere makes it news of all leases with an external port that they are reached at another address.
func (b *Book) elsewhere() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, r := range b.byName {
		if !r.pinhole && protocolOf(r.f) == portmap.PCP {
			b.news.add(r.f, false)
		}
	}
}

// Altered is portmap.Desk's.
func (d *Desk) Altered() ([]portmap.Alteration, <-chan struct{}) {
	b := d.Book
	b.mu.Lock()
	list := b.news.list
	b.news.list = map[string]piece{}
	b.mu.Unlock()
	out := make([]portmap.Alteration, 0, len(list))
	for _, p := range list {
		out = append(out, portmap.Alteration{Mapping: d.mapping(p.f), Gone: p.gone})
	}
	slices.SortFunc(out, func(x, y portmap.Alteration) int { return strings.Compare(x.Name, y.Name) })
	return out, b.news.more
}
