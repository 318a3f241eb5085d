package relay

import (
	"fmt"
	"io"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

var systemWholes = []whole{{"urgent data", urgentData}}

// sendWithFIN sends text so that its last segment carries the FIN, too: a cork is pulled by shutdown (tcp(7), TCP_CORK).
func (e *end) sendWithFIN(text string) {
	e.t.Helper()
	if e.isTCP() {
		control(e, func(fd int) error { return unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_CORK, 1) })
	}
	e.send(text)
	e.fin()
}

// peek waits until there is something to read, and leaves it there.
func (e *end) peek() {
	e.t.Helper()
	raw, err := e.Conn.(syscall.Conn).SyscallConn()
	if err != nil {
		e.t.Fatal(err)
	}
	err = raw.Read(func(fd uintptr) bool {
		_, _, err := unix.Recvfrom(int(fd), make([]byte, 1), unix.MSG_PEEK)
		return err != unix.EAGAIN
	})
	if err != nil {
		e.t.Fatal(err)
	}
}

// urgent sends one byte of urgent data.
func (e *end) urgent() {
	e.t.Helper()
	control(e, func(fd int) error {
		_, err := unix.SendmsgN(fd, []byte{urgentByte}, nil, nil, unix.MSG_OOB)
		return err
	})
}

const urgentByte = '!'

func control(e *end, f func(fd int) error) {
	e.t.Helper()
	raw, err := e.Conn.(syscall.Conn).SyscallConn()
	if err != nil {
		e.t.Fatal(err)
	}
	var failed error
	if err := raw.Control(func(fd uintptr) { failed = f(int(fd)) }); err != nil || failed != nil {
		e.t.Fatal(err, failed)
	}
}

// urgentData sends urgent bytes amid others. Nothing says how a relay should pass them on. They are not part of the stream
// to a reader without SO_OOBINLINE, so HAProxy and nginx lose them; with it they are, at their place. Either is fine. All
// other bytes must arrive in order.
func urgentData(t *testing.T, g *rig) {
	for _, first := range []string{"client", "target"} {
		for _, size := range []int{0, 1, 1000, 1 << 20} { // the last is bulk, which an engine may carry in another way
			t.Run(fmt.Sprintf("%s, %d bytes apart", first, size), func(t *testing.T) {
				a, b := g.open(t)
				if first == "target" {
					a, b = b, a
				}
				if !a.isTCP() {
					return
				}
				piece := strings.Repeat("in-band.", (size+7)/8)[:size]
				const urgents = 5
				go func() {
					for range urgents {
						_, _ = io.WriteString(a, piece)
						a.urgent()
					}
					_, _ = io.WriteString(a, piece+"end")
					_ = fin(a)
				}()
				got, err := io.ReadAll(b)
				if err != nil {
					t.Errorf("after %d of %d bytes: %v", len(got), (urgents+1)*size+3, err)
				}
				checkInBand(t, string(got), strings.Repeat(piece+"\x00", urgents)+piece+"end")
			})
		}
	}
}

// checkInBand compares got with want, in which a zero stands for a byte that may have been lost.
func checkInBand(t *testing.T, got, want string) {
	t.Helper()
	at := 0
	for i := range len(want) {
		switch {
		case at < len(got) && (got[at] == want[i] || want[i] == 0 && got[at] == urgentByte):
			at++
		case want[i] != 0:
			t.Fatalf("of %d bytes, those before byte %d are right; it is %.20q, want %.20q", len(got), at, got[at:], want[i:])
		}
	}
	if at != len(got) {
		t.Errorf("%d more bytes came at the end: %.20q", len(got)-at, got[at:])
	}
}
