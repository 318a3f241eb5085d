package load

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	sinkThreads  = 32 // more than any measurement has streams
	fetchThreads = 32 // the same
	backlog      = 4096
	bufferSize   = 256 << 10
)

// threads is how many share the work where one can serve many connections.
func threads() int { return runtime.NumCPU() }

// Serve reads the name of the tally's file, a line of standard input, listens on all ports of every IPv4 address, writes "ready"
// and serves until standard input ends. The process is good for nothing else, and ends with it.
func Serve() error {
	quiet(sinkThreads + fetchThreads + 3*threads() + 17)
	in := bufio.NewReader(os.Stdin)
	file, err := in.ReadString('\n')
	if err != nil {
		return fmt.Errorf("name of the tally: %w", err)
	}
	count, err := openTally(strings.TrimSpace(file))
	if err != nil {
		return err
	}
	if err := serveDatagrams(count); err != nil {
		return err
	}
	if err := serveEchoes(); err != nil {
		return err
	}
	sink, err := listen(unix.SOCK_STREAM, SinkPort)
	if err != nil {
		return err
	}
	source, err := listen(unix.SOCK_STREAM, FetchPort)
	if err != nil {
		return err
	}
	hold, err := new(net.ListenConfig).Listen(context.Background(), "tcp4", ":"+strconv.Itoa(HoldPort))
	if err != nil {
		return err
	}
	for range sinkThreads {
		worker(func() { serveSink(sink) })
	}
	for range fetchThreads {
		worker(func() { serveFetch(source) })
	}
	go serveHold(hold)
	fmt.Println("ready")
	_, err = io.Copy(io.Discard, in)
	return err
}

// serveEchoes serves both echo ports. They differ in how they end a connection.
func serveEchoes() error {
	for port, end := range map[int]func(int){EchoPort: reset, ClosePort: closeOrderly} {
		ln, err := listen(unix.SOCK_STREAM|unix.SOCK_NONBLOCK, port)
		if err != nil {
			return err
		}
		for range threads() {
			p, err := newPoller()
			if err != nil {
				return err
			}
			if errno := p.add(ln, ln, unix.EPOLLIN|unix.EPOLLEXCLUSIVE); errno != 0 {
				return check("epoll_ctl", errno)
			}
			worker(func() { serveEcho(p, ln, end) })
		}
	}
	return nil
}

// serveDatagrams serves both UDP ports.
func serveDatagrams(count *tally) error {
	udp, err := listen(unix.SOCK_DGRAM, UDPPort)
	if err != nil {
		return err
	}
	for range threads() {
		worker(func() { serveUDP(udp) })
	}
	sink, err := listen(unix.SOCK_DGRAM, CountPort)
	if err != nil {
		return err
	}
	_ = unix.SetsockoptInt(sink, unix.SOL_UDP, unix.UDP_GRO, 1) // without it (before Linux 5.0) it costs more to receive
	worker(func() { serveCount(sink, count) })
	return nil
}

func listen(kind, port int) (int, error) {
	fd, err := unix.Socket(unix.AF_INET, kind|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("socket: %w", err)
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
		return -1, err
	}
	if err := unix.Bind(fd, &unix.SockaddrInet4{Port: port}); err != nil {
		return -1, fmt.Errorf("listen on port %d: %w", port, err)
	}
	if kind == unix.SOCK_DGRAM {
		return fd, unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 4<<20)
	}
	return fd, unix.Listen(fd, backlog)
}

// serveEcho answers any number of connections on one thread. A reset at the end frees a relay of the TIME_WAIT that it would
// else keep for every connection.
func serveEcho(p *poller, ln int, end func(fd int)) {
	buf := make([]byte, bufferSize)
	for {
		for _, ev := range p.wait(-1) {
			fd := int(ev.Fd)
			switch {
			case fd == ln:
				if c, errno := accept(ln, unix.SOCK_NONBLOCK); errno == 0 && p.add(c, c, unix.EPOLLIN) != 0 {
					reset(c)
				}
			case ev.Events&(unix.EPOLLERR|unix.EPOLLHUP) != 0:
				reset(fd)
			default:
				n, errno := read(fd, buf)
				if n > 0 && errno == 0 {
					n, errno = write(fd, buf[:n])
				}
				if (n <= 0 || errno != 0) && errno != unix.EAGAIN {
					end(fd)
				}
			}
		}
	}
}

// serveSink takes one connection after the other, each until it ends.
func serveSink(ln int) {
	buf := make([]byte, 1<<20)
	for {
		c, errno := accept(ln, 0)
		if errno != 0 {
			continue // ECONNABORTED, mostly
		}
		for {
			if n, errno := discard(c, buf); n <= 0 || errno != 0 {
				break
			}
		}
		reset(c)
	}
}

// serveFetch fills one connection after the other, each until its client goes.
func serveFetch(ln int) {
	buf := make([]byte, bufferSize)
	for {
		c, errno := accept(ln, 0)
		if errno != 0 {
			continue
		}
		for errno == 0 {
			_, errno = write(c, buf)
		}
		reset(c)
	}
}

func serveUDP(fd int) {
	b := newBatch(32, 2048, true)
	for {
		if n, errno := b.receive(fd, unix.MSG_WAITFORONE); errno == 0 {
			_ = b.send(fd, n) // what does not go counts as lost over there
		}
	}
}

// serveCount counts datagrams without copying them.
func serveCount(fd int, count *tally) {
	b := newBatch(64, 1, false)
	b.joined()
	for {
		n, errno := b.receive(fd, unix.MSG_WAITFORONE|unix.MSG_TRUNC)
		if errno != 0 {
			continue
		}
		var datagrams uint32
		var bytes uint64
		for i := range n {
			datagrams += b.datagrams(i)
			bytes += uint64(b.msgs[i].n)
		}
		count.add(datagrams, bytes)
	}
}

// serveHold is for many connections that do little: here the Go scheduler is the better choice.
func serveHold(ln net.Listener) {
	for {
		c, err := ln.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err == nil {
			go holdStream(c)
		}
	}
}

func holdStream(c net.Conn) {
	defer c.Close()
	buf := make([]byte, 256)
	for {
		n, err := c.Read(buf)
		if err != nil {
			return
		}
		if _, err := c.Write(buf[:n]); err != nil {
			return
		}
	}
}
