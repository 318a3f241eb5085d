package httpproxy

import (
	"context"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fairlead-net/fairlead/relay/head"
	"github.com/fairlead-net/fairlead/relay/head/headtest"
)

// A slowEnv takes its time to say that a target is not there any more.
type slowEnv struct {
	head.Env
	dialling, late chan struct{}
	running        atomic.Int64
}

func (e *slowEnv) NeedsLogin() bool { return false }
func (e *slowEnv) Settled()         {}
func (e *slowEnv) Count(int, int)   {}

func (e *slowEnv) Dial(ctx context.Context, _, _ string, _ uint16) (net.Conn, error) {
	e.running.Add(1)
	defer e.running.Add(-1)
	close(e.dialling)
	<-ctx.Done()
	<-e.late
	return nil, ctx.Err()
}

// A client that leaves while its target is dialled gets no answer that nobody gave, and Serve leaves nobody behind.
func TestClientLeavesWhileItsTargetIsDialled(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(headtest.Patience))
	near, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	e := &slowEnv{dialling: make(chan struct{}), late: make(chan struct{})}
	served := make(chan struct{})
	go func() {
		defer close(served)
		_, _ = New(Options{}).Serve(t.Context(), near, e)
		if n := e.running.Load(); n != 0 {
			t.Errorf("%d still dial when the client is said to be served", n)
		}
		near.Close()
	}()
	if _, err := io.WriteString(c, "GET http://192.0.2.1/ HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	<-e.dialling
	_ = c.(*net.TCPConn).CloseWrite()
	time.AfterFunc(50*time.Millisecond, func() { close(e.late) })
	answer, _ := io.ReadAll(c)
	if strings.Contains(string(answer), "200") {
		t.Errorf("the client was told %q", answer)
	}
	<-served
}
