package sshwire

import (
	"errors"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
)

// python is the system's, which has the packages of the distribution.
func python(t *testing.T, module string) string {
	t.Helper()
	path := "/usr/bin/python3"
	if out, err := exec.Command(path, "-W", "ignore", "-c", "import "+module).CombinedOutput(); err != nil {
		if os.Getenv("FAIRLEAD_NETNS") == "require" {
			t.Fatalf("%s is needed: %s", module, out)
		}
		t.Skipf("python has no %s", module)
	}
	return path
}

func TestServerOfAsyncssh(t *testing.T) {
	py, user := python(t, "asyncssh"), newTestKey(t)
	noLeaks(t)
	_, target, _ := net.SplitHostPort(startEcho(t))
	port, _ := startServer(t, serverConfig(newTestKey(t)), Options{Channel: acceptDirect, RekeyBytes: 2 << 20})
	out, err := exec.Command("timeout", "40", py, "-W", "ignore", "testdata/client_asyncssh.py", port, user.file, target).CombinedOutput()
	if err != nil || !strings.HasSuffix(string(out), "ok\n") {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestClientOfAsyncssh(t *testing.T) {
	py, user := python(t, "asyncssh"), newTestKey(t)
	port := freePort(t)
	start(t, py, "-W", "ignore", "testdata/server_asyncssh.py", port, newTestKey(t).file, user.file+".pub")
	waitPort(t, port)
	noLeaks(t)
	c := startClient(t, port, clientConfig(user), Options{RekeyBytes: 2 << 20})
	manyEchoes(t, forwardLocal(t, c, startEcho(t), CarryOptions{}))
}

func TestServerOfPlink(t *testing.T) {
	plink, puttygen := program(t, "plink"), program(t, "puttygen")
	user, host := newTestKey(t), newTestKey(t)
	if out, err := exec.Command(puttygen, user.file, "-O", "private", "-o", user.file+".ppk").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	noLeaks(t)
	port, _ := startServer(t, serverConfig(host), Options{Channel: acceptDirect, RekeyBytes: 2 << 20})
	local := freePort(t)
	start(t, plink, "-ssh", "-batch", "-N", "-noagent", "-i", user.file+".ppk", "-hostkey", ssh.FingerprintSHA256(host.PublicKey()),
		"-P", port, "-L", "127.0.0.1:"+local+":"+startEcho(t), "me@127.0.0.1")
	waitPort(t, local)
	manyEchoes(t, "127.0.0.1:"+local)
}

// TestDropbear has a client without AES-GCM, which x/crypto serves on the same connection.
func TestDropbear(t *testing.T) {
	dbclient, convert := program(t, "dbclient"), program(t, "dropbearconvert")
	user, host := newTestKey(t), newTestKey(t)
	if out, err := exec.Command(convert, "openssh", "dropbear", user.file, user.file+".db").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	noLeaks(t)
	general := &ssh.ServerConfig{
		ServerVersion:     DefaultVersion,
		PublicKeyCallback: func(ssh.ConnMetadata, ssh.PublicKey) (*ssh.Permissions, error) { return nil, nil },
	}
	general.AddHostKey(host)
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		tcp, err := l.Accept()
		if err != nil {
			return
		}
		var other *UnsupportedError
		if _, err := Server(tcp.(*net.TCPConn), serverConfig(host)); !errors.As(err, &other) {
			t.Errorf("dropbear speaks what is spoken here: %v", err)
			tcp.Close()
			return
		}
		serveGeneral(other.Conn, general)
	}()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	local := freePort(t)
	cmd := start(t, dbclient, "-y", "-y", "-N", "-i", user.file+".db", "-p", port, "-L", "127.0.0.1:"+local+":"+startEcho(t), "me@127.0.0.1")
	waitPort(t, local)
	dialEcho(t, "127.0.0.1:"+local, 100_000)
	_ = cmd.Process.Kill()
	select {
	case <-ended:
	case <-time.After(patience):
		t.Error("the connection does not end")
	}
}
