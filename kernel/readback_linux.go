package kernel

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// A found is an element as the kernel has it.
type found struct {
	key, keyEnd, data []byte
	owner             string
	counted           counter
}

// identity tells elements of one set apart, the forward that they are for included.
func identity(key, keyEnd, data []byte, owner string) string {
	return string(key) + "|" + string(keyEnd) + "|" + string(data) + "|" + owner
}

// getTable finds the table: its handle, which a table made anew does not share, and its comment. Not there: handle 0.
func getTable(s *nlSocket, table string) (handle uint64, layout string, err error) {
	err = s.request("find the table", unix.NFNL_SUBSYS_NFTABLES<<8|unix.NFT_MSG_GETTABLE, 0, familyInet, str(1, table), func(b []byte) error {
		eachAttr(b, func(kind uint16, value []byte) {
			switch {
			case kind == 4 && len(value) == 8:
				handle = binary.BigEndian.Uint64(value)
			case kind == 6:
				layout = commentText(value)
			}
		})
		return nil
	})
	if errors.Is(err, unix.ENOENT) {
		return 0, "", nil
	}
	return handle, layout, err
}

// generation is a number that every change of nftables by anybody makes another one.
func generation(s *nlSocket) (id uint32, err error) {
	err = s.request("ask for the generation", unix.NFNL_SUBSYS_NFTABLES<<8|unix.NFT_MSG_GETGEN, 0, unix.AF_UNSPEC, nil, func(b []byte) error {
		eachAttr(b, func(kind uint16, value []byte) {
			if kind == 1 {
				id = beUint32(value)
			}
		})
		return nil
	})
	return id, err
}

// isThere reports whether the table with handle is there. Nobody else has changed anything until generation at, as far as is known; the
// generation that it returns is that one, or 0 where somebody has since.
func isThere(s *nlSocket, table string, handle uint64, at uint32) (there bool, generationNow uint32, err error) {
	if at != 0 {
		now, err := generation(s)
		if err != nil || now == at {
			return err == nil, at, err
		}
	}
	found, _, err := getTable(s, table)
	return found == handle, 0, err
}

// countRulesOf is how many rules the table has.
func countRulesOf(s *nlSocket, table string) (n int, err error) {
	err = s.dump("list the rules", unix.NFNL_SUBSYS_NFTABLES<<8|unix.NFT_MSG_GETRULE, familyInet, str(1, table), func() { n = 0 }, func([]byte) error {
		n++
		return nil
	})
	return n, err
}

// tables is the names of the inet tables in the kernel.
func tables(s *nlSocket) ([]string, error) { return names(s, unix.NFT_MSG_GETTABLE, 1, nil) }

func setNames(s *nlSocket, table string) ([]string, error) {
	return names(s, unix.NFT_MSG_GETSET, 2, str(1, table))
}

func chainNames(s *nlSocket, table string) ([]string, error) {
	all := map[string][]string{}
	err := s.dump("list the chains", unix.NFNL_SUBSYS_NFTABLES<<8|unix.NFT_MSG_GETCHAIN, familyInet, nil, func() { clear(all) }, func(b []byte) error {
		var of, name string
		eachAttr(b, func(kind uint16, value []byte) {
			switch kind {
			case 1:
				of = unix.ByteSliceToString(value)
			case 3:
				name = unix.ByteSliceToString(value)
			}
		})
		all[of] = append(all[of], name)
		return nil
	})
	return all[table], err
}

func names(s *nlSocket, kind, attribute uint16, filter []byte) ([]string, error) {
	var out []string
	err := s.dump("list nftables", unix.NFNL_SUBSYS_NFTABLES<<8|kind, familyInet, filter, func() { out = nil }, func(b []byte) error {
		eachAttr(b, func(kind uint16, value []byte) {
			if kind == attribute {
				out = append(out, unix.ByteSliceToString(value))
			}
		})
		return nil
	})
	return out, err
}

// elementsOf reads every element of a set.
func elementsOf(s *nlSocket, table, set string) ([]found, error) {
	var out []found
	attrs := concat(str(1, table), str(2, set))
	err := s.dump("read set "+set, unix.NFNL_SUBSYS_NFTABLES<<8|unix.NFT_MSG_GETSETELEM, familyInet, attrs,
		func() { out = out[:0] }, func(b []byte) error {
			eachElement(b, func(f found) { out = append(out, f) })
			return nil
		})
	return out, err
}

// eachCount reads the counters of a set, and copies nothing: key and owner are valid until yield returns. What it
// yielded is void when it returns errDumpInterrupted.
func eachCount(s *nlSocket, table, set string, yield func(key, owner []byte, n counter)) error {
	attrs := concat(str(1, table), str(2, set))
	return s.request("read set "+set, unix.NFNL_SUBSYS_NFTABLES<<8|unix.NFT_MSG_GETSETELEM, unix.NLM_F_DUMP, familyInet, attrs, func(b []byte) error {
		eachAttr(b, func(kind uint16, list []byte) {
			if kind != 3 {
				return
			}
			eachAttr(list, func(_ uint16, item []byte) {
				var key, owner []byte
				var n counter
				eachAttr(item, func(kind uint16, value []byte) {
					switch kind {
					case 1:
						key = valueBytes(value)
					case 6:
						owner = commentBytes(value)
					case 7:
						n = counterOf(value)
					}
				})
				yield(key, owner, n)
			})
		})
		return nil
	})
}

// lookUp reads one element, or nothing when it is not there.
func lookUp(s *nlSocket, table string, e element) (f found, err error) {
	key := appendKey(nil, 1, e.set.trim(e.set.key(), e.key))
	if e.keyEnd != nil {
		key = appendKey(key, 10, e.keyEnd)
	}
	attrs := concat(str(1, table), str(2, e.set.name()), nested(3, nested(1, key)))
	err = s.request("read an element of "+e.set.name(), unix.NFNL_SUBSYS_NFTABLES<<8|unix.NFT_MSG_GETSETELEM, 0, familyInet, attrs, func(b []byte) error {
		eachElement(b, func(got found) { f = got })
		return nil
	})
	if errors.Is(err, unix.ENOENT) {
		err = nil
	}
	return f, err
}

func eachElement(b []byte, yield func(found)) {
	eachAttr(b, func(kind uint16, list []byte) {
		if kind != 3 {
			return
		}
		eachAttr(list, func(_ uint16, item []byte) { yield(parseElement(item)) })
	})
}

func parseElement(item []byte) found {
	var f found
	eachAttr(item, func(kind uint16, value []byte) {
		switch kind {
		case 1:
			f.key = dataValue(value)
		case 2:
			f.data = dataValue(value)
		case 6:
			f.owner = commentText(value)
		case 7:
			f.counted = counterOf(value)
		case 10:
			f.keyEnd = dataValue(value)
		}
	})
	return f
}

func dataValue(b []byte) []byte { return bytes.Clone(valueBytes(b)) }

// valueBytes is the value inside b, not copied.
func valueBytes(b []byte) (out []byte) {
	eachAttr(b, func(kind uint16, value []byte) {
		if kind == 1 {
			out = value
		}
	})
	return out
}

func counterOf(b []byte) (c counter) {
	eachAttr(b, func(kind uint16, value []byte) {
		if kind != 2 {
			return
		}
		eachAttr(value, func(kind uint16, value []byte) {
			switch {
			case kind == 1 && len(value) == 8:
				c.bytes = binary.BigEndian.Uint64(value)
			case kind == 2 && len(value) == 8:
				c.packets = binary.BigEndian.Uint64(value)
			}
		})
	})
	return c
}

// commentText is the comment in user data: records of type, length and value, the comment being type 0.
func commentText(b []byte) string { return string(commentBytes(b)) }

func commentBytes(b []byte) []byte {
	for len(b) >= 2 && len(b) >= 2+int(b[1]) {
		if b[0] == 0 {
			return bytes.TrimSuffix(b[2:2+int(b[1])], []byte{0})
		}
		b = b[2+int(b[1]):]
	}
	return nil
}

// errNotOurs is a table of our name that we did not make.
func errNotOurs(table, comment string) error {
	return fmt.Errorf("a table \"inet %s\" is there and was not made by fairlead (its comment is %q): rename it or remove it", table, comment)
}
