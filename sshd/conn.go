package sshd

import "github.com/fairlead-net/fairlead/internal/sshchan"

// A helloConn is the connection of a client whose first words were read ahead, and are read again, and to whom the first words
// were said, and are not said again.
type helloConn struct {
	*sshchan.Wire
	ahead []byte
	said  int // bytes
}

func (c *helloConn) Read(p []byte) (int, error) {
	if len(c.ahead) == 0 {
		return c.Wire.Read(p)
	}
	n := copy(p, c.ahead)
	if c.ahead = c.ahead[n:]; len(c.ahead) == 0 {
		c.ahead = nil
	}
	return n, nil
}

func (c *helloConn) Write(p []byte) (int, error) {
	skip := min(c.said, len(p))
	if c.said -= skip; skip == len(p) {
		return skip, nil
	}
	n, err := c.Wire.Write(p[skip:])
	return n + skip, err
}
