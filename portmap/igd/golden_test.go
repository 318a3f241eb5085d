package igd

import (
	"flag"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/fairlead-net/fairlead/forward"
)

var update = flag.Bool("update", false, "write the answers into testdata instead of comparing them")

// An exchange is a request of a client, and what it is answered.
type exchange struct {
	head            string // "> client gateway" or "> client gateway udp"
	request, answer string
}

// TestClients plays what programs and consoles are known to send: each file of testdata is one client, or some that know of each other. In
// a file, "> CLIENT GATEWAY" begins a request of HTTP, with "udp" behind it one of SSDP, and "<" its answer. TOKEN stands for the
// secret part of paths, LENGTH for that of a body; "igd 2" is the version of the device, "taken tcp/80" a port that the operator has.
func TestClients(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("there are no clients in testdata (%v)", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			intro, exchanges := readExchanges(string(text))
			desk := newDesk()
			igd := 1
			for line := range strings.Lines(intro) {
				words := strings.Fields(line)
				switch {
				case len(words) == 2 && words[0] == "igd":
					igd = int(words[1][0] - '0')
				case len(words) == 2 && words[0] == "taken":
					desk.taken[externalOf(t, words[1])] = true
				}
			}
			l := newLab(t, testOptions(t, desk, igd))
			out := intro
			for _, e := range exchanges {
				got := l.play(e)
				if got != e.answer && !*update {
					t.Errorf("%s\n%s\ngot\n%s\nwant\n%s", e.head, e.request, got, e.answer)
				}
				out += e.head + "\n" + e.request + "<\n" + got
			}
			if *update {
				if err := os.WriteFile(file, []byte(out), 0o600); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

func readExchanges(text string) (intro string, list []exchange) {
	const (
		before = iota
		request
		answer
	)
	state := before
	for line := range strings.Lines(text) {
		switch {
		case strings.HasPrefix(line, "> "):
			list = append(list, exchange{head: strings.TrimSuffix(line, "\n")})
			state = request
		case line == "<\n" && state == request:
			state = answer
		case state == before:
			intro += line
		case state == request:
			list[len(list)-1].request += line
		default:
			list[len(list)-1].answer += line
		}
	}
	return intro, list
}

// What differs from run to run.
var (
	dates     = regexp.MustCompile(`(?m)^Date: .*$`)
	boots     = regexp.MustCompile(`(?m)^(01-NLS|BOOTID.UPNP.ORG): \d+$`)
	sids      = regexp.MustCompile(`(?m)^SID: uuid:[0-9a-f-]{36}$`)
	uptimes   = regexp.MustCompile(`<NewUptime>\d+<`)
	remaining = regexp.MustCompile(`<NewLease(Duration|Time)>(3599|7199|604799)<`)
)

func (l *lab) play(e exchange) string {
	l.t.Helper()
	words := strings.Fields(e.head)
	text := strings.ReplaceAll(e.request, "TOKEN", l.server.token)
	fields, body, _ := strings.Cut(text, "\n\n")
	fields = strings.ReplaceAll(fields, "LENGTH", decimal(len(body)))
	text = strings.ReplaceAll(fields, "\n", "\r\n") + "\r\n\r\n" + body
	answer := ""
	if len(words) > 3 && words[3] == "udp" {
		own, list := l.site.answers([]byte(text), netip.AddrPortFrom(netip.MustParseAddr(words[1]), 50000), netip.MustParseAddr(words[2]), time.Now())
		for i := range list {
			answer += "from " + own.String() + "\n" + string(list[i].Append(nil))
		}
	} else {
		answer = l.raw(words[1], words[2], text)
	}
	answer = strings.ReplaceAll(strings.ReplaceAll(answer, "\r\n", "\n"), l.server.token, "TOKEN")
	answer = boots.ReplaceAllString(dates.ReplaceAllString(answer, "Date: now"), "$1: 1")
	answer = uptimes.ReplaceAllString(sids.ReplaceAllString(answer, "SID: uuid:1"), "<NewUptime>0<")
	answer = remaining.ReplaceAllStringFunc(answer, func(s string) string {
		return strings.NewReplacer("3599", "3600", "7199", "7200", "604799", "604800").Replace(s)
	})
	return strings.TrimRight(answer, "\n") + "\n"
}

// externalOf reads "tcp/80".
func externalOf(t *testing.T, s string) external {
	t.Helper()
	l, err := forward.ParseListen(s)
	if err != nil {
		t.Fatal(err)
	}
	return external{l.Networks, l.Ports.Ranges[0].First}
}
