package main

import (
	"encoding/json"
	"strconv"
	"strings"
	"time"
)

// A shareEvent is what happens to what is shared. State is "connecting", "connected" (again), "reconnecting", "waiting", "refused" or "ready"; of a
// port's target here "unreachable" or "answers" (again).
type shareEvent struct {
	State     string `json:"state"`
	Hub       string `json:"hub,omitempty"`       // host:port
	Transport string `json:"transport,omitempty"` // of "connected"
	URL       string `json:"url,omitempty"`       // of "ready": what visitors call; of several names there are as many, with blanks between them
	To        string `json:"to,omitempty"`        // the port that it is about; without one it is about the hub
	Detail    string `json:"detail,omitempty"`
	Visitors  uint64 `json:"visitors,omitempty"` // of "unreachable": who were turned away for that since the last time
}

// A shareVoice says it.
type shareVoice struct {
	screen *screen
	json   bool
}

// quiet reports whether it is left out that a port waits: people are told when it takes long, or is no news.
func (v *shareVoice) quiet(one *sharedPort) bool {
	if one.since.IsZero() {
		one.since = time.Now()
	}
	return !v.json && time.Since(one.since) < shareSilence
}

func (v *shareVoice) say(e shareEvent) {
	if v.json {
		line, err := json.Marshal(e)
		if err != nil {
			panic(err) // it is text
		}
		v.screen.print(string(line))
		return
	}
	v.screen.print(e.line())
}

// line is e for people: "tcp://hub.example.com:8000 -> 127.0.0.1:8080", "reconnecting: the link by quic … ended".
func (e shareEvent) line() string {
	switch {
	case e.State == "ready":
		return arrow(strings.ReplaceAll(plain(e.URL), " ", ", "), []string{plain(e.To)})
	case e.State == "connected":
		return "connected again, by " + e.Transport
	case e.State == "answers":
		return plain(e.To) + " answers now"
	case e.State == "unreachable" && e.Visitors == 0:
		return "nothing answers at " + plain(e.To) + " yet: " + plain(e.Detail) + "; it is shared all the same"
	case e.State == "unreachable":
		visitors := "1 visitor was"
		if e.Visitors > 1 {
			visitors = strconv.FormatUint(e.Visitors, 10) + " visitors were"
		}
		return visitors + " turned away: " + plain(e.To) + " does not answer: " + plain(e.Detail)
	case e.State == "connecting" && e.Detail == "":
		return "connecting to " + plain(e.Hub)
	}
	line := e.State
	if e.To != "" {
		line = plain(e.To) + " is " + e.State
		if e.State == "waiting" {
			line = plain(e.To) + " waits for the hub"
		}
	}
	if e.Detail != "" {
		line += ": " + plain(e.Detail)
	}
	return line
}
