package relay

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"github.com/pires/go-proxyproto"
)

// tlvFixed is the bytes of an extension before its value: a type and a length (proxy-protocol.txt, section 2.2).
const tlvFixed = 3

// Extensions (TLVs) are what a version 2 header says besides addresses: the protocol and the name that the client asked for,
// its certificate, an id of the connection, what cloud providers say of theirs. None of that is the relay's to judge, so all of
// it goes on as it came, types that nobody has thought of yet included. Padding (section 2.2.4) and the checksum (2.2.3)
// belong to the header rather than to the connection: they are left out, and the checksum is made anew.
type extensions struct {
	raw    []byte // TLVs, without padding and checksum
	summed bool   // the header had a checksum, so the next one gets one
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli) // CRC32c (RFC 9260, appendix A)

// readExtensions takes the extensions out of a whole version 2 header. A checksum that does not fit is an error, which
// section 2.2.3 demands.
func readExtensions(header []byte) (extensions, error) {
	var e extensions
	for at := proxyV2Fixed + addressSize(header[13]); at < len(header); {
		if len(header)-at < tlvFixed {
			return e, errors.New("an extension is cut short")
		}
		end := at + tlvFixed + int(binary.BigEndian.Uint16(header[at+1:]))
		if end > len(header) {
			return e, fmt.Errorf("an extension of type %#02x is longer than the header", header[at])
		}
		switch proxyproto.PP2Type(header[at]) {
		case proxyproto.PP2_TYPE_NOOP:
		case proxyproto.PP2_TYPE_CRC32C:
			if err := checkSum(header, at+tlvFixed, end); err != nil {
				return e, err
			}
			e.summed = true
		default:
			e.raw = append(e.raw, header[at:end]...)
		}
		at = end
	}
	return e, nil
}

// addressSize is the length of the addresses of a version 2 header, by its byte of family and protocol (section 2.2).
func addressSize(family byte) int {
	switch family >> 4 {
	case 1:
		return 2*4 + 2*2 // IPv4
	case 2:
		return 2*16 + 2*2 // IPv6
	case 3:
		return 2 * 108 // unix
	}
	return 0
}

// checkSum compares the checksum that stands in header from begin to end with that of the header, in which it counts as zero.
func checkSum(header []byte, begin, end int) error {
	if end-begin != crc32.Size {
		return fmt.Errorf("its checksum has %d bytes", end-begin)
	}
	sum := crc32.Update(0, castagnoli, header[:begin])
	sum = crc32.Update(sum, castagnoli, make([]byte, crc32.Size))
	sum = crc32.Update(sum, castagnoli, header[end:])
	if sum != binary.BigEndian.Uint32(header[begin:]) {
		return errors.New("its checksum is wrong")
	}
	return nil
}

// appendTo puts the extensions behind the addresses of a version 2 header, which has none yet.
func (e extensions) appendTo(header []byte) ([]byte, error) {
	header = append(header, e.raw...)
	if e.summed {
		header = append(header, byte(proxyproto.PP2_TYPE_CRC32C), 0, crc32.Size, 0, 0, 0, 0)
	}
	rest := len(header) - proxyV2Fixed
	if rest > proxyV2Max-proxyV2Fixed {
		return nil, fmt.Errorf("the PROXY protocol header would have %d bytes; %d is the most", len(header), proxyV2Max)
	}
	binary.BigEndian.PutUint16(header[14:], uint16(rest))
	if e.summed {
		binary.BigEndian.PutUint32(header[len(header)-crc32.Size:], crc32.Checksum(header, castagnoli))
	}
	return header, nil
}
