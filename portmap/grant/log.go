package grant

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/fairlead-net/fairlead/forward"
)

// The keys of log attributes.
const (
	keyLease    = "lease"
	keyClient   = "client"
	keyMAC      = "mac"
	keyHost     = "hostname"
	keyInternal = "internal"
	keyExternal = "external"
	keyProtocol = "protocol"
	keyUntil    = "until"
	keyWhat     = "description"
	keyErr      = "err"
	keyCount    = "count"
)

// linesEach is how many lines clients may have logged in linesPer. More are counted: thousands of mappings may come in a second,
// and nobody shall fill a disk by asking.
const (
	linesEach = 200
	linesPer  = 10 * time.Second
)

// A budget bounds what is logged for others.
type budget struct {
	mu     sync.Mutex
	since  time.Time
	lines  int
	untold int
}

// take reports whether one more line may be written, and how many were not since the last.
func (b *budget) take(now time.Time) (ok bool, untold int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if now.Sub(b.since) >= linesPer {
		b.since, b.lines = now, 0
		untold, b.untold = b.untold, 0
	}
	if b.lines++; b.lines > linesEach {
		b.untold++
		return false, untold
	}
	return true, untold
}

// say logs a line that a client is the cause of, at a level that shows, unless there were too many.
func (d *Desk) say(level slog.Level, what string, attrs func() []any) {
	if !d.Log.Enabled(context.Background(), level) {
		return
	}
	ok, untold := d.budget.take(time.Now())
	if untold > 0 {
		d.Log.Warn("more was asked of the port-mapping server than is logged line by line", keyCount, untold)
	}
	if ok {
		d.Log.Log(context.Background(), level, what, attrs()...) //nolint:sloglint // what is a constant of each caller
	}
}

func attrsOf(f *forward.Forward) []any {
	r, l := newRecord(f), f.Lease
	attrs := []any{
		keyLease, f.Name, keyProtocol, string(protocolOf(f)), keyClient, l.Client.String(),
		keyInternal, r.key.Internal.String(), keyExternal, f.Listen.String(),
	}
	for _, a := range [][2]string{{keyMAC, l.MAC}, {keyHost, l.Hostname}, {keyWhat, l.Description}} {
		if a[1] != "" {
			attrs = append(attrs, a[0], a[1])
		}
	}
	return attrs
}

// logMap tells what became of requests. What is renewed is told at a lower level: it happens again and again.
func (d *Desk) logMap(p *plan) {
	for i := range p.items {
		it := &p.items[i]
		lease := func() []any { return append(attrsOf(it.f), keyUntil, it.f.Expires.Round(0)) }
		switch {
		case it.err != nil:
			d.say(slog.LevelWarn, "mapping refused", func() []any {
				return []any{
					keyProtocol, string(it.req.Protocol), keyClient, it.req.Client.String(), keyMAC, it.mac,
					keyInternal, it.req.Internal.String(), keyExternal, it.req.External, keyErr, it.err,
				}
			})
		case it.f.Lease.Asking && (it.before == nil || !it.before.f.Lease.Asking):
			d.say(slog.LevelWarn, "a lease waits to be approved", func() []any {
				return append(lease(), "by", "fairlead leases approve "+it.f.Name)
			})
		case it.before == nil:
			d.say(slog.LevelInfo, "lease granted", lease)
		case !it.f.Listen.Equal(it.before.f.Listen) || it.f.Disabled != it.before.f.Disabled:
			d.say(slog.LevelInfo, "lease changed", lease)
		case d.Log.Enabled(context.Background(), slog.LevelDebug):
			d.Log.Debug("lease renewed", lease()...)
		}
	}
}

// maxText is the longest text of a client that is kept, in bytes.
const maxText = 128

// printable is what of a client's text can be shown: it may be anything, terminals' control characters included.
func printable(s string) string {
	clean := true
	for i := 0; i < len(s) && clean; i++ {
		clean = ' ' <= s[i] && s[i] < 0x7f
	}
	if !clean {
		s = strings.Map(func(r rune) rune {
			if r == utf8.RuneError || !unicode.IsPrint(r) {
				return '.'
			}
			return r
		}, s)
	}
	if s = strings.TrimSpace(s); len(s) > maxText {
		s = strings.ToValidUTF8(s[:maxText], "")
	}
	return s
}
