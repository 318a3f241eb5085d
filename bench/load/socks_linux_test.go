package load

import (
	"bytes"
	"io"
	"net"
	"os"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// pair is two connected sockets; ours is closed with the test.
func pair(t *testing.T, kind int) (ours int, theirs net.Conn) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|kind, 0)
	if err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(fds[1]), "proxy")
	theirs, err = net.FileConn(f)
	_ = f.Close()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = theirs.Close(); closeOrderly(fds[0]) })
	return fds[0], theirs
}

func TestHandshake(t *testing.T) {
	spec := Spec{Socks: "127.0.0.1:1080"}
	to, ask, err := spec.way("192.0.2.7:443")
	if err != nil {
		t.Fatal(err)
	}
	if want := []byte{5, 1, 0, 1, 192, 0, 2, 7, 1, 187}; !bytes.Equal(ask, want) || to.Addr != [4]byte{127, 0, 0, 1} {
		t.Fatalf("asks %v for % x, not for % x", to.Addr, ask, want)
	}
	granted := []byte{5, 0, 0, 1, 0, 0, 0, 0, 0, 0}
	tests := []struct {
		name            string
		method, granted []byte
		want            string // in the error; "": there is none
	}{
		{"granted", []byte{5, 0}, granted, ""},
		{"wants a login", []byte{5, 2}, nil, "login of kind 2"},
		{"refused", []byte{5, 0}, []byte{5, 2, 0, 1, 0, 0, 0, 0, 0, 0}, "reply 2"},
		{"another version", []byte{4, 0}, nil, "version 4"},
		{"another address", []byte{5, 0}, []byte{5, 0, 0, 4, 0, 0, 0, 0, 0, 0}, "kind 4"},
		{"closed", nil, nil, "closed"},
		{"closed within the answer", []byte{5, 0}, granted[:4], "closed"},
	}
	// The load's calls wait in the kernel without telling the scheduler: with one processor the other end would never have a turn.
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(max(2, runtime.GOMAXPROCS(0))))
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			fd, proxy := pair(t, 0)
			said := make(chan []byte, 1)
			go func() {
				defer proxy.Close()
				got := make([]byte, len(greeting()), 64)
				_, _ = io.ReadFull(proxy, got)
				for _, b := range tt.method { // one by one: answers may come in pieces
					_, _ = proxy.Write([]byte{b})
				}
				if tt.granted != nil {
					request := make([]byte, len(ask))
					_, _ = io.ReadFull(proxy, request)
					got = append(got, request...)
					_, _ = proxy.Write(tt.granted)
				}
				said <- got
			}()
			done, err := new(handshake).next(fd, ask)
			got := <-said
			if done != (err == nil) || (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
				t.Errorf("done %v, %v, and %q is wanted", done, err, tt.want)
			}
			if want := append(greeting(), ask...); done && !bytes.Equal(got, want) {
				t.Errorf("said % x, not % x", got, want)
			}
		})
	}
}

// A socket that does not block is the poller's to wait for.
func TestHandshakeInSteps(t *testing.T) {
	fd, proxy := pair(t, unix.SOCK_NONBLOCK)
	ask := make([]byte, 10)
	var h handshake
	for i, answer := range [][]byte{{5}, {0}, {5, 0, 0, 1}, {0, 0, 0, 0, 0}} {
		if done, err := h.next(fd, ask); done || err != nil {
			t.Fatalf("step %d: done %v, %v", i, done, err)
		}
		if _, err := proxy.Write(answer); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := proxy.Write([]byte{0}); err != nil {
		t.Fatal(err)
	}
	if done, err := h.next(fd, ask); !done || err != nil {
		t.Errorf("done %v, %v", done, err)
	}
}
