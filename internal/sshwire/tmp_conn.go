package sshwire

type Conn struct{ ready }

func newConn(r ready) (*Conn, error) { return &Conn{r}, nil }
func supported() error               { return nil }
