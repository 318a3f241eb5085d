package load

import (
	"errors"
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// What is said to a SOCKS proxy; RFC 1928, sections 3, 4 and 6.
const (
	socksVersion = 5
	socksNoLogin = 0
	socksConnect = 1
	socksIPv4    = 1
	socksGranted = 0

	methodAnswer  = 2         // bytes: version, method
	connectAnswer = 4 + 4 + 2 // bytes: version, reply, reserved, kind of address; address; port
)

// greeting offers a proxy that nobody logs in.
func greeting() []byte { return []byte{socksVersion, 1, socksNoLogin} }

// way is what to call to get to a target, and what to ask there for it: nothing without a proxy.
func (s *Spec) way(target string) (to *unix.RawSockaddrInet4, ask []byte, err error) {
	if to, err = sockaddr(target); err != nil || s.Socks == "" {
		return to, nil, err
	}
	port := (*[2]byte)(unsafe.Pointer(&to.Port))
	ask = append([]byte{socksVersion, socksConnect, 0, socksIPv4}, to.Addr[:]...)
	ask = append(ask, port[0], port[1])
	to, err = sockaddr(s.Socks)
	return to, ask, err
}

// A handshake is how far a connection has come with its proxy. Each message waits for the answer to the one before, as clients do.
//
//	nothing said ──► greeting ──► request ──► done
type handshake struct {
	said   int // messages
	got    int // bytes of the answer to the last one
	answer [connectAnswer]byte
}

// next takes a handshake on, until it is done or, with a socket that does not block, the proxy's turn. ask is the request.
func (h *handshake) next(fd int, ask []byte) (done bool, err error) {
	messages := [...][]byte{greeting(), ask}
	awaited := [...]int{0, methodAnswer, connectAnswer}
	for {
		if h.got == awaited[h.said] {
			if err := h.check(); err != nil {
				return false, err
			}
			if h.said == len(messages) {
				return true, nil
			}
			if n, errno := write(fd, messages[h.said]); errno != 0 || n < len(messages[h.said]) {
				return false, fmt.Errorf("write to the proxy: %d bytes: %w", n, errno)
			}
			h.said, h.got = h.said+1, 0
		}
		n, errno := read(fd, h.answer[h.got:awaited[h.said]])
		switch {
		case errno == unix.EAGAIN:
			return false, nil
		case errno != 0:
			return false, check("read from the proxy", errno)
		case n == 0:
			return false, errors.New("the proxy has closed the connection instead of an answer")
		}
		h.got += n
	}
}

// check fails unless the answer to the last message is whole and says yes.
func (h *handshake) check() error {
	a := h.answer
	switch {
	case h.said == 0:
	case a[0] != socksVersion:
		return fmt.Errorf("the proxy speaks version %d", a[0])
	case h.said == 1 && a[1] != socksNoLogin:
		return fmt.Errorf("the proxy wants a login of kind %d", a[1])
	case h.said == 2 && a[1] != socksGranted:
		return fmt.Errorf("the proxy refuses: reply %d", a[1])
	case h.said == 2 && a[3] != socksIPv4:
		return fmt.Errorf("the proxy answers with an address of kind %d", a[3])
	}
	return nil
}
