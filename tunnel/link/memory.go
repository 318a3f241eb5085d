package link

import "time"

// A memory is how a transport did lately.
type memory struct {
	fails int
	until time.Time // when it may be tried as if nothing had been
}

// How long a transport that was of no use is started later than others: twice as long each time.
const (
	blockedFirst = time.Minute
	blockedLast  = 32 * time.Minute
)

func (d *Dialer) blocked(transport string, now time.Time) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return now.Before(d.memory[transport].until)
}

func (d *Dialer) worked(transport string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	*d.memory[transport] = memory{}
}

func (d *Dialer) failed(transport string, now time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	m := d.memory[transport]
	m.until = now.Add(min(d.pace.blocked<<min(m.fails, 10), blockedLast))
	m.fails++
}

// forgive forgets what was of no use: the network is another.
func (d *Dialer) forgive() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, m := range d.memory {
		*m = memory{}
	}
}
