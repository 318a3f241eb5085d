package sshwire

import (
	"context"
	"flag"
	"log"
	"net"
	"net/http"
	_ "net/http/pprof"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/sys/unix"
)

// TestMain makes the test binary a forwarder, too, so that measurements and other programs have one to run:
//
//	sshwire.test -role server -key FILE -addr HOST:PORT
//	sshwire.test -role client -key FILE -addr HOST:PORT -L PORT:HOST:PORT,…
func TestMain(m *testing.M) {
	if slices.ContainsFunc(os.Args[1:], func(a string) bool { return a == "-role" || a == "-L" }) {
		forwarder()
		return
	}
	os.Exit(m.Run())
}

func forwarder() {
	f := flag.NewFlagSet("forwarder", flag.ExitOnError)
	role := f.String("role", "client", "")
	key := f.String("key", "", "")
	addr := f.String("addr", "", "")
	local := f.String("L", "", "")
	cipher := f.String("c", CipherAES128GCM, "")
	prof := f.String("pprof", "", "")
	rekey := f.Uint64("rekey", 0, "")
	_ = f.Parse(os.Args[1:])
	if *prof != "" {
		go func() { _ = http.ListenAndServe(*prof, nil) }()
	}
	pem, err := os.ReadFile(*key)
	fatal(err)
	signer, err := ssh.ParsePrivateKey(pem)
	fatal(err)
	o := Options{RekeyBytes: *rekey}
	if *role == "server" {
		l, err := net.Listen("tcp4", *addr)
		fatal(err)
		for {
			tcp, err := l.Accept()
			fatal(err)
			go func() {
				c, err := Server(tcp.(*net.TCPConn), serverConfig(signer))
				if err != nil {
					log.Print("server: ", err)
					return
				}
				o := o
				o.Channel = acceptDirect
				log.Print("server: ", c.Run(context.Background(), o))
			}()
		}
	}
	tcp, err := net.Dial("tcp", *addr)
	fatal(err)
	config := clientConfig(signer)
	config.User, config.Ciphers = "root", []string{*cipher}
	c, err := Client(tcp.(*net.TCPConn), config)
	fatal(err)
	for _, spec := range strings.Split(*local, ",") {
		port, to, _ := strings.Cut(spec, ":")
		serveLocal(c, port, to)
	}
	log.Fatal("client: ", c.Run(context.Background(), o))
}

func fatal(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

// serveLocal is ssh -L.
func serveLocal(c *Conn, port, to string) {
	n, err := strconv.Atoi(port)
	fatal(err)
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	fatal(err)
	fatal(unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1))
	fatal(unix.Bind(fd, &unix.SockaddrInet4{Port: n, Addr: [4]byte{127, 0, 0, 1}}))
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1) // clients inherit it
	fatal(unix.Listen(fd, 1024))
	extra := directExtra(to)
	c.Loop().Listen(fd, func(s int) { c.OpenChannelCarry("direct-tcpip", extra, s, CarryOptions{}) })
}

// directExtra is what direct-tcpip wants (RFC 4254, section 7.2).
func directExtra(to string) []byte {
	host, port, err := net.SplitHostPort(to)
	fatal(err)
	n, err := strconv.Atoi(port)
	fatal(err)
	b := appendU32(appendString(nil, host), uint32(n))
	return appendU32(appendString(b, "127.0.0.1"), 1)
}

// acceptDirect connects where the client wants to, in the loop.
func acceptDirect(in *Incoming) {
	r := reader{b: in.Extra}
	host, port := r.string(), r.u32()
	addr, err := netip.ParseAddr(host)
	if in.Type != "direct-tcpip" || host != "localhost" && err != nil || port == 0 || port > 65535 {
		in.Reject(Prohibited, "no")
		return
	}
	if host == "localhost" {
		addr = netip.AddrFrom4([4]byte{127, 0, 0, 1})
	}
	fd, err := connectTo(netip.AddrPortFrom(addr, uint16(port)))
	if err != nil {
		in.Reject(ConnectionFailed, err.Error())
		return
	}
	in.AcceptCarry(fd, CarryOptions{Connecting: 10 * time.Second})
}

// connectTo starts a connect to an IPv4 address.
func connectTo(to netip.AddrPort) (int, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
	if err := unix.Connect(fd, &unix.SockaddrInet4{Port: int(to.Port()), Addr: to.Addr().As4()}); err != nil && err != unix.EINPROGRESS {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}
