package socks

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"github.com/fairlead-net/fairlead/relay/head"
)

// Answers of SOCKS 4. The protocol has no code for most reasons.
const (
	granted4  = 0x5a
	rejected4 = 0x5b
	noIdent4  = 0x5d // the user name is not the client's; what a server says that cannot tell who it is
)

// read4 reads a request of SOCKS 4 or 4a. Its user name comes without a password, so it logs nobody in.
func read4(r *reader, needsLogin bool) (request, error) {
	fixed, err := r.take(8)
	if err != nil {
		return request{}, fmt.Errorf("read the request: %w", err)
	}
	q := request{dialect: version4, command: fixed[1], port: binary.BigEndian.Uint16(fixed[2:])}
	addr := netip.AddrFrom4([4]byte(fixed[4:]))
	if _, err := r.takeText(); err != nil {
		return request{}, fmt.Errorf("read the user name: %w", err)
	}
	q.host = addr.String()
	// 4a: an address of 0.0.0.x, x not being 0, stands for a name, which follows.
	if b := addr.As4(); b[0] == 0 && b[1] == 0 && b[2] == 0 && b[3] != 0 {
		name, err := r.takeText()
		if err != nil {
			return request{}, fmt.Errorf("read the name: %w", err)
		}
		if q.host, err = head.Host(name); err != nil {
			return request{}, r.reject4(rejected4, fmt.Errorf("%w: %w", ErrProtocol, err))
		}
	}
	switch {
	case needsLogin:
		return request{}, r.reject4(noIdent4, fmt.Errorf("SOCKS 4 has no passwords; use SOCKS 5: %w", ErrNoLogin))
	case q.command != cmdConnect && q.command != cmdBind:
		return request{}, r.reject4(rejected4, fmt.Errorf("%w: SOCKS 4 has no command %d", ErrProtocol, q.command))
	case q.command == cmdConnect && q.port == 0:
		return request{}, r.reject4(rejected4, fmt.Errorf("%w: port 0", ErrProtocol))
	}
	return q, nil
}

func (r *reader) reject4(code byte, why error) error {
	r.write(reply4(code, netip.AddrPort{})) //nolint:errcheck // why says more
	return why
}

// reply4 is an answer. It has room for IPv4 only; 0.0.0.0 stands for the address of this host that the client called.
func reply4(code byte, bound netip.AddrPort) []byte {
	b := binary.BigEndian.AppendUint16([]byte{0, code}, bound.Port())
	if addr := bound.Addr().Unmap(); addr.Is4() {
		return append(b, addr.AsSlice()...)
	}
	return append(b, 0, 0, 0, 0)
}
