package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"github.com/fairlead-net/fairlead/internal/netlab"
)

const (
	delayEach  = 50 * time.Millisecond // each way
	delayChunk = 64 << 10
	delayRoom  = 128 << 20 // bytes on their way in each direction: more than twice what 10 Gb/s have there
)

// A delayed is a port that leads to an address, with what goes there and what comes back a while later than it would.
type delayed struct {
	Listen, To string
	Each       time.Duration // each way
}

// delay runs the role "delay" on a host.
func (b *bench) delay(h netlab.TB, at *netlab.Node, list []delayed) {
	cmd := at.Command(context.Background(), b.self, "delay")
	input, err := cmd.StdinPipe()
	if err != nil {
		h.Fatalf("delay: %v", err)
	}
	p, err := at.StartCommand(cmd)
	if err != nil {
		h.Fatalf("delay: %v", err)
	}
	h.Cleanup(func() { _ = input.Close(); p.Kill() })
	if err := json.NewEncoder(input).Encode(list); err != nil {
		h.Fatalf("delay: %v", err)
	}
	p.WaitOutput(h, "ready")
}

// delays is the role: it reads a list of what is to be delayed as JSON, listens, writes "ready" and carries until standard input
// ends. The process is good for nothing else, and ends with it.
func delays() error {
	var list []delayed
	in := json.NewDecoder(os.Stdin)
	if err := in.Decode(&list); err != nil {
		return fmt.Errorf("what to delay: %w", err)
	}
	for _, d := range list {
		ln, err := new(net.ListenConfig).Listen(context.Background(), "tcp4", d.Listen)
		if err != nil {
			return err
		}
		go d.serve(ln)
	}
	fmt.Println("ready")
	_, err := io.Copy(io.Discard, io.MultiReader(in.Buffered(), os.Stdin))
	return err
}

func (d delayed) serve(ln net.Listener) {
	for {
		c, err := ln.Accept()
		if err != nil {
			return
		}
		go d.carry(c.(*net.TCPConn))
	}
}

func (d delayed) carry(c *net.TCPConn) {
	defer c.Close()
	to, err := net.Dial("tcp4", d.To)
	if err != nil {
		fmt.Fprintln(os.Stderr, "delay:", err)
		return
	}
	defer to.Close()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		delayCopy(to.(*net.TCPConn), c, d.Each)
	}()
	delayCopy(c, to.(*net.TCPConn), d.Each)
	<-ended
}

// A parcel is bytes and when they are due.
type parcel struct {
	due  time.Time
	data []byte
}

// delayCopy copies one direction so much later. It limits no rate: the reader takes what comes as long as there is room.
func delayCopy(to, from *net.TCPConn, by time.Duration) {
	queue := make(chan parcel, delayRoom/delayChunk)
	free := make(chan []byte, cap(queue))
	go func() {
		defer close(queue)
		for {
			var buf []byte
			select {
			case buf = <-free:
			default:
				buf = make([]byte, delayChunk)
			}
			n, err := from.Read(buf)
			if n > 0 {
				queue <- parcel{time.Now().Add(by), buf[:n]}
			}
			if err != nil {
				return
			}
		}
	}()
	broken := false
	for p := range queue {
		time.Sleep(time.Until(p.due))
		if !broken {
			if _, err := to.Write(p.data); err != nil {
				broken = true // what is on its way is taken still, so that the reader can end
				_ = from.CloseRead()
			}
		}
		select {
		case free <- p.data[:delayChunk]:
		default:
		}
	}
	_ = to.CloseWrite()
}
