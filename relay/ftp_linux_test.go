package relay

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestFTPUrgent interrupts as FTP clients do (RFC 959, appendix): half of a Telnet command is urgent data. The server hears
// the command alone.
func TestFTPUrgent(t *testing.T) {
	heard := make(chan string, 4)
	server := serve(t, "tcp", "127.0.0.2:0", func(c net.Conn) {
		fmt.Fprint(c, "220 hello\r\n")
		lines := bufio.NewScanner(plain(c))
		for lines.Scan() {
			heard <- lines.Text()
			fmt.Fprint(c, "200 ok\r\n")
		}
	}).String()
	r := startRelay(t)
	front := "127.0.0.1:" + freePort(t)
	apply(t, r, ftpForward(t, "ftp", front, server))
	client := dialFTP(t, front)
	client.say("NOOP", "200")
	raw, err := client.Conn.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	_ = raw.Control(func(fd uintptr) { err = unix.Sendto(int(fd), []byte("\xff\xf4\xff"), unix.MSG_OOB, nil) })
	if err != nil {
		t.Fatal(err)
	}
	client.say("\xf2ABOR", "200")
	client.say("NOOP", "200")
	if got := strings.Join([]string{<-heard, <-heard, <-heard}, " "); got != "NOOP ABOR NOOP" {
		t.Errorf("the server heard %q", got)
	}
}

// TestFTPHandover hands a data connection to the next relay, and not its control connection: what was negotiated in it is not known
// there. (A server ends what it sends then.)
func TestFTPHandover(t *testing.T) {
	server, front := ftpServer(t, "127.0.0.2:0", "0"), "127.0.0.1:"+freePort(t)
	f := ftpForward(t, "ftp", front, server)
	l := newLife(t, nil, f)
	client := dialFTP(t, front)
	data := client.passive("PASV")
	ask(t, data, "before")
	client.offered("PASV") // and somebody waits at a port
	l = newLife(t, l.leave(t), f)
	turnedAway(t, client.Conn)
	ask(t, data, "after")
	if list := sessionsOf(l.Relay); len(list) != 1 || list[0].Client != data.LocalAddr().String() {
		t.Errorf("sessions: %+v", list)
	}
	data.Close()
	eventually(t, "it to end", func() bool { return len(sessionsOf(l.Relay)) == 0 })
	if s := l.Stats()["ftp"]; s.Open != 0 {
		t.Errorf("stats: %+v", s)
	}
	ask(t, dialFTP(t, front).passive("EPSV"), "again")
	l.end()
	if err := <-l.done; err != nil {
		t.Error(err)
	}
}

// TestFTPFromTheAddressCalled calls a client back from the address that it has called, although another one is nearer.
func TestFTPFromTheAddressCalled(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("it takes root to come from any address")
	}
	r := startRelay(t)
	port := freePort(t)
	apply(t, r, ftpForward(t, "ftp", port, ftpServer(t, "127.0.0.2:0", "0")))
	ask(t, dialFTP(t, "127.0.0.5:"+port).active(), "hello")
}
