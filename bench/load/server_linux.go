package load

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

const (
	serverThreads = 48 // at a time on the echo port, and as many on the sink: more than any measurement has connections
	udpThreads    = 4
	backlog       = 4096
	bufferSize    = 256 << 10
)

// Serve listens on the four ports of every IPv4 address, writes "ready" and serves until standard input ends. The process
// is good for nothing else, and ends with it.
func Serve() error {
	quiet(2*serverThreads + udpThreads + 16)
	echoes, err := listen(unix.SOCK_STREAM, EchoPort)
	if err != nil {
		return err
	}
	sink, err := listen(unix.SOCK_STREAM, SinkPort)
	if err != nil {
		return err
	}
	udp, err := listen(unix.SOCK_DGRAM, UDPPort)
	if err != nil {
		return err
	}
	hold, err := new(net.ListenConfig).Listen(context.Background(), "tcp4", ":"+strconv.Itoa(HoldPort))
	if err != nil {
		return err
	}
	for range serverThreads {
		worker(func() { serveEcho(echoes) })
		worker(func() { serveSink(sink) })
	}
	for range udpThreads {
		worker(func() { serveUDP(udp) })
	}
	go serveHold(hold)
	fmt.Println("ready")
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
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

func serveEcho(ln int) {
	buf := make([]byte, bufferSize)
	serveStreams(ln, func(c int) (int, syscall.Errno) {
		n, errno := read(c, buf)
		if n > 0 && errno == 0 {
			return write(c, buf[:n])
		}
		return n, errno
	})
}

func serveSink(ln int) {
	buf := make([]byte, 1<<20)
	serveStreams(ln, func(c int) (int, syscall.Errno) { return discard(c, buf) })
}

// serveStreams accepts and serves one connection after the other, each until it has no more to say. Closing with a reset
// frees a relay of the TIME_WAIT that it would else keep for every connection.
func serveStreams(ln int, turn func(c int) (int, syscall.Errno)) {
	for {
		c, errno := accept(ln)
		if errno != 0 {
			continue // ECONNABORTED, mostly
		}
		for {
			if n, errno := turn(c); n <= 0 || errno != 0 {
				break
			}
		}
		reset(c)
	}
}

func serveUDP(fd int) {
	b := newBatch(32, 2048, true)
	for {
		if n, errno := b.receive(fd, unix.MSG_WAITFORONE); errno == 0 {
			b.send(fd, n)
		}
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
