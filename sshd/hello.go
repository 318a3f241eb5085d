package sshd

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/sys/cpu"
)

// Which cipher is used is the client's choice: the first of its list that the server has, too (RFC 4253, section 7.1). OpenSSH's
// list starts with ChaCha20, which costs here and there about twice as much time as AES-GCM does on a machine with AES in
// hardware. So a client that knows AES-GCM is offered nothing else; its list is read before the offer is made.

// helloTime is how long a client that has said its version may take to send its list. Who wants to see ours first gets all.
const helloTime = 500 * time.Millisecond

// maxHello is the longest version and list (RFC 4253, sections 4.2 and 6.1).
const (
	maxVersion = 255
	maxPacket  = 35_000
)

// fastGCM reports whether this machine has AES-GCM in hardware.
func fastGCM() bool {
	return cpu.X86.HasAES && cpu.X86.HasPCLMULQDQ || cpu.ARM64.HasAES && cpu.ARM64.HasPMULL || cpu.S390X.HasAESGCM
}

// hello says this server's version on c, and reads what the client says until its list is there, or will not come. What was
// read stays to be read again. The reading ends at the deadline at the latest.
func hello(c *helloConn, deadline time.Time) (ciphers []string, err error) {
	version := banner + "\r\n"
	if _, err := c.Wire.Write([]byte(version)); err != nil {
		return nil, err
	}
	c.said = len(version)
	buffer := make([]byte, 4<<10)
	waiting := false
	for {
		ciphers, hasVersion, done := parseHello(c.ahead)
		if done {
			return ciphers, c.Wire.SetReadDeadline(deadline)
		}
		if hasVersion && !waiting {
			waiting = true
			if soon := time.Now().Add(helloTime); soon.Before(deadline) {
				if err := c.Wire.SetReadDeadline(soon); err != nil {
					return nil, err
				}
			}
		}
		n, err := c.Wire.Read(buffer)
		c.ahead = append(c.ahead, buffer[:n]...)
		if errors.Is(err, os.ErrDeadlineExceeded) && waiting && time.Now().Before(deadline) {
			return nil, c.Wire.SetReadDeadline(deadline)
		}
		if err != nil {
			return nil, err
		}
	}
}

// kexInit is SSH_MSG_KEXINIT (RFC 4253, section 7.1).
type kexInit struct {
	Cookie                                   [16]byte `sshtype:"20"`
	Kex, HostKeys, In, Out, MACsIn, MACsOut  []string
	CompressIn, CompressOut, LangIn, LangOut []string
	Follows                                  bool
	Reserved                                 uint32
}

// parseHello looks for a version and a list of algorithms in what a client has sent so far. ciphers are those that it knows in
// both directions. done says that looking at more would not help.
func parseHello(b []byte) (ciphers []string, hasVersion, done bool) {
	line, rest, found := bytes.Cut(b, []byte("\n"))
	switch {
	case len(line) > maxVersion:
		return nil, false, true
	case !found:
		return nil, false, false
	case !bytes.HasPrefix(line, []byte("SSH-")):
		return nil, false, true
	case len(rest) < 5:
		return nil, true, false
	}
	length, padding := int(binary.BigEndian.Uint32(rest)), int(rest[4])
	switch {
	case length > maxPacket || length < padding+2:
		return nil, true, true
	case len(rest) < 4+length:
		return nil, true, false
	}
	var m kexInit
	if err := ssh.Unmarshal(rest[5:4+length-padding], &m); err != nil {
		return nil, true, true
	}
	return slices.DeleteFunc(m.In, func(name string) bool { return !slices.Contains(m.Out, name) }), true, true
}

// offer is the ciphers for a client that knows these.
func offer(known []string, fast bool) []string {
	all := algorithms().Ciphers
	gcm := slices.DeleteFunc(slices.Clone(all), func(name string) bool { return !strings.Contains(name, "-gcm@") })
	if fast && slices.ContainsFunc(known, func(name string) bool { return slices.Contains(gcm, name) }) {
		return gcm
	}
	return all
}
