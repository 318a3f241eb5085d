package ssdp

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// Where SSDP is spoken (UDA 1.1, section 1 and annex A). FF05::C is the group for a site, FF02::C that for a link.
const (
	Port       = 1900
	Group4     = "239.255.255.250"
	Group6Link = "ff02::c"
	Group6Site = "ff05::c"
)

// Targets that are no type of a device or service (UDA 1.1, section 1.3.2).
const (
	All        = "ssdp:all"
	RootDevice = "upnp:rootdevice"
)

// Bounds of a datagram. Searches have 100 to 200 bytes, answers up to 600.
const (
	MaxLen    = 2048
	maxFields = 40
)

// A Kind is what a datagram is for.
type Kind uint8

// The kinds of datagrams.
const (
	Search Kind = iota // M-SEARCH: who is there?
	Answer             // to a search
	Alive              // NOTIFY, ssdp:alive
	ByeBye             // NOTIFY, ssdp:byebye
	Update             // NOTIFY, ssdp:update
)

func (k Kind) String() string {
	return [...]string{"M-SEARCH", "answer", "ssdp:alive", "ssdp:byebye", "ssdp:update"}[k]
}

// A Message is one datagram. Of a field that a kind does not have, nothing is read or written.
type Message struct {
	Kind     Kind
	Host     string // where it was sent to; "" in answers
	Target   string // ST of a search and its answer, NT of a notice
	USN      string // the name of what answers or gives notice
	Location string // URL of the description
	Agent    string // SERVER, or USER-AGENT of a search
	MX       int    // seconds that an answer may be late; 0: not said, as in a search by unicast
	MaxAge   int    // seconds that an answer or notice holds; 0: not said
	Boot     uint32 // BOOTID.UPNP.ORG; 0: not said. The next one of an Update is in NextBoot
	NextBoot uint32 // NEXTBOOTID.UPNP.ORG; 0: not said
	Config   uint32 // CONFIGID.UPNP.ORG; 0: not said
}

// ErrNotSSDP is matched by every error of Parse.
var ErrNotSSDP = errors.New("not a datagram of SSDP")

func bad(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrNotSSDP, fmt.Sprintf(format, args...))
}

// Parse reads a datagram. It is as generous as clients need (bare line feeds, any case, no empty line at the end, MAN without its quotes), and
// refuses what is too long, or has control characters in it.
func Parse(b []byte) (Message, error) {
	var m Message
	if len(b) > MaxLen {
		return m, bad("%d bytes; %d are the most", len(b), MaxLen)
	}
	line, rest := cutLine(b)
	kind, notify, err := startLine(string(line))
	if err != nil {
		return m, err
	}
	m.Kind = kind
	var man, nts string
	seen := map[string]bool{}
	for len(rest) > 0 {
		line, rest = cutLine(rest)
		if len(line) == 0 {
			break
		}
		name, value, ok := field(line)
		if !ok {
			return Message{}, bad("the line %.40q is no field", line)
		}
		if len(seen) >= maxFields {
			return Message{}, bad("more than %d fields", maxFields)
		}
		if seen[name] {
			continue // the first one counts, as with most of those who read SSDP
		}
		seen[name] = true
		switch name {
		case "MAN":
			man = strings.Trim(value, `"`)
		case "NTS":
			nts = value
		default:
			m.set(name, value)
		}
	}
	switch {
	case notify:
		i := strings.Index("ssdp:alive  ssdp:byebye ssdp:update ", nts+" ")
		if nts == "" || i%12 != 0 {
			return Message{}, bad("a notice of %.40q", nts)
		}
		m.Kind = Alive + Kind(i/12)
	case m.Kind == Search && !strings.EqualFold(man, "ssdp:discover"):
		return Message{}, bad("a search with MAN %.40q", man)
	}
	if m.Target == "" {
		return Message{}, bad("it does not say for what it is")
	}
	return m, nil
}

// startLine tells what a datagram is. Which notice it is stands in a field.
func startLine(s string) (kind Kind, notify bool, err error) {
	if strings.HasPrefix(s, "HTTP/1.") {
		if words := strings.Fields(s); len(words) >= 2 && words[1] == "200" {
			return Answer, false, nil
		}
		return 0, false, bad("an answer that begins with %.40q", s)
	}
	switch words := strings.Fields(s); {
	case len(words) != 3 || words[1] != "*" || !strings.HasPrefix(words[2], "HTTP/1."):
	case words[0] == "M-SEARCH":
		return Search, false, nil
	case words[0] == "NOTIFY":
		return Alive, true, nil
	}
	return 0, false, bad("it begins with %.40q", s)
}

// set takes over the field of a name in upper case. A number that is none is as if it were not said.
func (m *Message) set(name, value string) {
	switch name {
	case "HOST":
		m.Host = value
	case "ST", "NT":
		if (name == "ST") == (m.Kind == Search || m.Kind == Answer) {
			m.Target = value
		}
	case "USN":
		m.USN = value
	case "LOCATION":
		m.Location = value
	case "SERVER", "USER-AGENT":
		m.Agent = value
	case "MX":
		m.MX = seconds(value)
	case "CACHE-CONTROL":
		for part := range strings.SplitSeq(value, ",") {
			key, n, _ := strings.Cut(part, "=")
			if strings.EqualFold(strings.TrimSpace(key), "max-age") {
				m.MaxAge = seconds(strings.TrimSpace(n))
			}
		}
	case "BOOTID.UPNP.ORG":
		m.Boot = number(value)
	case "NEXTBOOTID.UPNP.ORG":
		m.NextBoot = number(value)
	case "CONFIGID.UPNP.ORG":
		m.Config = number(value)
	}
}

// seconds reads a number of seconds, at most a week.
func seconds(s string) int {
	return int(min(number(s), 7*24*3600))
}

func number(s string) uint32 {
	n, err := strconv.ParseUint(s, 10, 32)
	if err != nil {
		return 0
	}
	return uint32(n)
}

func cutLine(b []byte) (line, rest []byte) {
	line, rest, _ = bytes.Cut(b, []byte{'\n'})
	return bytes.TrimSuffix(line, []byte{'\r'}), rest
}

func field(line []byte) (name, value string, ok bool) {
	for _, c := range line {
		if c < ' ' && c != '\t' || c == 0x7f {
			return "", "", false
		}
	}
	name, value, ok = strings.Cut(string(line), ":")
	name = strings.ToUpper(strings.TrimRight(name, " \t"))
	return name, strings.Trim(value, " \t"), ok && name != "" && !strings.ContainsAny(name, " \t")
}
