package kernel

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// A nlSocket is one netlink socket to netfilter. It belongs to the network namespace of the thread that opened it. It is
// our own because a transaction needs what the libraries leave out: which message of a batch of thousands was refused.
type nlSocket struct {
	fd   int
	seq  uint32
	buf  []byte
	room int // bytes that its send buffer was made for
}

// bufferSize holds any reply of the kernel: dumps come in pieces of at most 32 KiB, refusals in one piece each.
const bufferSize = 256 << 10

// replyTimeout bounds the wait for a reply. The kernel works a request off before the send returns; a reply that is not
// there then will not come.
const replyTimeout = 10 * time.Second

func openNetlink() (*nlSocket, error) { return openNetlinkTo(unix.NETLINK_NETFILTER) }

// openNetlinkTo opens a socket to one part of the kernel (netlink(7), NETLINK_NETFILTER or NETLINK_ROUTE).
func openNetlinkTo(part int) (*nlSocket, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, part)
	if err != nil {
		return nil, fmt.Errorf("open a netlink socket: %w", err)
	}
	s := &nlSocket{fd: fd, buf: make([]byte, bufferSize)}
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return nil, errors.Join(fmt.Errorf("bind a netlink socket: %w", err), s.Close())
	}
	timeout := unix.NsecToTimeval(int64(replyTimeout))
	err = errors.Join(
		unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &timeout),
		unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_EXT_ACK, 1),
		unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_CAP_ACK, 1),
		s.setBuffer(unix.SO_RCVBUFFORCE, unix.SO_RCVBUF, 8<<20),
	)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("set up a netlink socket: %w", err), s.Close())
	}
	return s, nil
}

// setBuffer asks for a buffer of n bytes: beyond the system's limit where we may, up to it where we may not.
func (s *nlSocket) setBuffer(force, plain, n int) error {
	if err := unix.SetsockoptInt(s.fd, unix.SOL_SOCKET, force, n); err == nil {
		return nil
	}
	return unix.SetsockoptInt(s.fd, unix.SOL_SOCKET, plain, n)
}

func (s *nlSocket) Close() error { return unix.Close(s.fd) }

// A keptSocket is a socket that is opened when first needed and kept: closing one waits for the kernel to tidy up (20 ms).
type keptSocket struct{ s *nlSocket }

// with runs fn on the socket. One on which reading or writing failed is not used again: an answer that came late would be
// taken for that to the next request.
func (k *keptSocket) with(fn func(*nlSocket) error) error {
	if k.s == nil {
		s, err := openNetlink()
		if err != nil {
			return err
		}
		k.s = s
	}
	err := fn(k.s)
	var refused *KernelError
	if err != nil && !errors.As(err, &refused) && !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded) {
		err = errors.Join(err, k.Close())
	}
	return err
}

// Close closes the socket, if there is one.
func (k *keptSocket) Close() error {
	if k.s == nil {
		return nil
	}
	err := k.s.Close()
	k.s = nil
	return err
}

// A nlMessage is a netlink message without its header.
type nlMessage struct {
	kind  uint16
	flags uint16
	seq   uint32
	data  []byte // valid until the next receive
}

// A KernelError is the kernel's refusal of a request, in its own words where it gave some.
type KernelError struct {
	Op   string // what was asked
	Err  error  // a unix.Errno
	Text string // the kernel's own words, or ""
	seq  uint32
}

func (e *KernelError) Error() string {
	msg := e.Op + ": " + e.Err.Error()
	if e.Text != "" {
		msg += " (" + e.Text + ")"
	}
	return msg
}

func (e *KernelError) Unwrap() error { return e.Err }

func (s *nlSocket) send(b []byte) error {
	err := unix.Sendto(s.fd, b, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK})
	return os.NewSyscallError("netlink send", err)
}

// receive reads one piece and calls yield for each of its messages.
func (s *nlSocket) receive(yield func(nlMessage) error) error {
	n, _, err := unix.Recvfrom(s.fd, s.buf, 0)
	if err != nil {
		return os.NewSyscallError("netlink receive", err)
	}
	b := s.buf[:n]
	for len(b) >= unix.NLMSG_HDRLEN {
		size := int(binary.NativeEndian.Uint32(b))
		if size < unix.NLMSG_HDRLEN || size > len(b) {
			return errors.New("netlink: a message of the kernel is cut short")
		}
		m := nlMessage{
			kind:  binary.NativeEndian.Uint16(b[4:]),
			flags: binary.NativeEndian.Uint16(b[6:]),
			seq:   binary.NativeEndian.Uint32(b[8:]),
			data:  b[unix.NLMSG_HDRLEN:size],
		}
		if err := yield(m); err != nil {
			return err
		}
		b = b[min(pad4(size), len(b)):]
	}
	return nil
}

// refusal is the error that message m reports, or nil for an acknowledgement.
func refusal(op string, m nlMessage) error {
	if len(m.data) < 4 {
		return errors.New("netlink: an error of the kernel is cut short")
	}
	code := int32(binary.NativeEndian.Uint32(m.data))
	if code == 0 {
		return nil
	}
	e := &KernelError{Op: op, Err: unix.Errno(-code), seq: m.seq}
	if m.flags&unix.NLM_F_ACK_TLVS != 0 && len(m.data) >= 4+unix.NLMSG_HDRLEN {
		eachAttr(m.data[4+unix.NLMSG_HDRLEN:], func(kind uint16, value []byte) {
			if kind == unix.NLMSGERR_ATTR_MSG {
				e.Text = unix.ByteSliceToString(value)
			}
		})
	}
	return e
}

// appendMessage writes one request of a netfilter subsystem: netlink header, nfgenmsg, attributes.
func appendMessage(b []byte, kind, flags uint16, seq uint32, family byte, resource uint16, attrs ...[]byte) []byte {
	at := len(b)
	b = append(b, 0, 0, 0, 0)
	b = binary.NativeEndian.AppendUint16(b, kind)
	b = binary.NativeEndian.AppendUint16(b, flags|unix.NLM_F_REQUEST)
	b = binary.NativeEndian.AppendUint32(b, seq)
	b = append(b, 0, 0, 0, 0)
	b = append(b, family, unix.NFNETLINK_V0)
	b = binary.BigEndian.AppendUint16(b, resource)
	for _, a := range attrs {
		b = append(b, a...)
	}
	binary.NativeEndian.PutUint32(b[at:], uint32(len(b)-at))
	return b
}

// request sends one message and calls yield for the attributes of every answer. With NLM_F_DUMP the answers are a list
// that the kernel may have changed while it wrote it down; then the error is errDumpInterrupted.
func (s *nlSocket) request(op string, kind, flags uint16, family byte, attrs []byte, yield func(attrs []byte) error) error {
	s.seq++
	seq := s.seq
	if flags&unix.NLM_F_DUMP == 0 {
		flags |= unix.NLM_F_ACK
	}
	if err := s.send(appendMessage(nil, kind, flags, seq, family, 0, attrs)); err != nil {
		return fmt.Errorf("%s: %w", op, err)
	}
	interrupted, done := false, false
	for !done {
		err := s.receive(func(m nlMessage) error {
			if m.seq != seq {
				return nil // an answer to an earlier request that timed out
			}
			interrupted = interrupted || m.flags&unix.NLM_F_DUMP_INTR != 0
			switch {
			case m.kind == unix.NLMSG_DONE:
				done = true
				if len(m.data) >= 4 {
					return refusal(op, m)
				}
				return nil
			case m.kind == unix.NLMSG_ERROR:
				done = true
				return refusal(op, m)
			case len(m.data) < 4:
				return errors.New(op + ": an answer of the kernel is cut short")
			case yield == nil:
				return nil
			}
			return yield(m.data[4:])
		})
		if err != nil {
			return err
		}
	}
	if interrupted {
		return errDumpInterrupted
	}
	return nil
}

var errDumpInterrupted = errors.New("the kernel's list changed while it was read")

// withNetlink runs fn on a socket of its own.
func withNetlink(fn func(*nlSocket) error) error {
	s, err := openNetlink()
	if err != nil {
		return err
	}
	return errors.Join(fn(s), s.Close())
}

// dump is request for a list, tried again while the list keeps changing under it. reset is called before each try.
func (s *nlSocket) dump(op string, kind uint16, family byte, attrs []byte, reset func(), yield func(attrs []byte) error) error {
	const tries = 8
	for try := 1; ; try++ {
		if reset != nil {
			reset()
		}
		err := s.request(op, kind, unix.NLM_F_DUMP, family, attrs, yield)
		if !errors.Is(err, errDumpInterrupted) || try == tries {
			return err
		}
	}
}
