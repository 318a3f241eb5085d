package sshwire
import ("testing";"net")
func TestClientHS(t *testing.T) {
	u := newTestKey(t)
	p := startSSHD(t, u)
	c, err := Client(dialTCP(t, p), clientConfig(u))
	if err != nil { t.Fatal(err) }
	t.Log(string(c.login.ServerVersion()), c.theirs)
}
func TestServerHS(t *testing.T) {
	u := newTestKey(t)
	l, _ := net.Listen("tcp4", "127.0.0.1:0")
	_, port, _ := net.SplitHostPort(l.Addr().String())
	start(t, program(t, "ssh"), sshArgs(u, port, "-N", "root@127.0.0.1")...)
	c, err := l.Accept()
	if err != nil { t.Fatal(err) }
	s, err := Server(c.(*net.TCPConn), serverConfig(newTestKey(t)))
	if err != nil { t.Fatal(err) }
	t.Log(string(s.login.ClientVersion()), s.strict, s.theirs)
	conn := make(chan *net.TCPConn, 1)
	go func() { c, _ := l.Accept(); conn <- c.(*net.TCPConn) }()
	go func() { s, err := Server(<-conn, serverConfig(newTestKey(t))); t.Log(s!=nil, err) }()
	cc, err := Client(dialTCP(t, port), clientConfig(u))
	t.Log(cc!=nil, err)
}
