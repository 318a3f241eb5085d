package table

import "github.com/fairlead-net/fairlead/forward"

// claims is who has which traffic of this host. A disabled forward claims none: setting one aside is how another takes its
// place. One whose schedule is closed or that has expired keeps its claim, so that time alone never makes two forwards meet.
type claims struct {
	index forward.Index
	unix  map[string]*forward.Forward // by path
}

// add enters f, or returns an error that wraps a *forward.TieError and changes nothing.
func (c *claims) add(f *forward.Forward) error {
	switch {
	case f.Disabled || f.ListensAt() != forward.Host:
		return nil
	case !f.Listen.IsUnix():
		return c.index.Add(f)
	}
	if other := c.unix[f.Listen.Path]; other != nil {
		return unixTie{&forward.TieError{Name: f.Name, Other: other.Name}, f.Listen.Path}
	}
	if c.unix == nil {
		c.unix = map[string]*forward.Forward{}
	}
	c.unix[f.Listen.Path] = f
	return nil
}

// remove takes out again what add took.
func (c *claims) remove(f *forward.Forward) {
	switch {
	case f.Disabled || f.ListensAt() != forward.Host:
	case f.Listen.IsUnix():
		delete(c.unix, f.Listen.Path)
	default:
		c.index.Remove(f)
	}
}
