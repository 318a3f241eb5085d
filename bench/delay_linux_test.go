package main

import (
	"bytes"
	"io"
	"net"
	"testing"
	"time"
)

// listenHere is a listener on a port of loopback, which is closed with the test.
func listenHere(t *testing.T) net.Listener {
	t.Helper()
	ln, err := net.Listen("tcp4", loopback+":0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() })
	return ln
}

// What goes through a delay comes whole and in order, the end of each direction after it and by itself.
func TestDelay(t *testing.T) {
	server, front := listenHere(t), listenHere(t)
	go func() {
		c, err := server.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		all, _ := io.ReadAll(c) // the client's end comes first
		_, _ = c.Write(all)
	}()
	go delayed{To: server.Addr().String(), Each: time.Millisecond}.serve(front)
	c, err := net.Dial("tcp4", front.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	sent := bytes.Repeat([]byte("not limited, only late; "), 20*delayChunk/24)
	go func() {
		_, _ = c.Write(sent)
		_ = c.(*net.TCPConn).CloseWrite()
	}()
	got, err := io.ReadAll(c)
	if err != nil || !bytes.Equal(got, sent) {
		t.Errorf("%d bytes came back of %d, %v", len(got), len(sent), err)
	}
}
