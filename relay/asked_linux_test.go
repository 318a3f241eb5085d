package relay

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"testing"

	"github.com/fairlead-net/fairlead/forward"
	"github.com/fairlead-net/fairlead/node"
	"github.com/fairlead-net/fairlead/node/host"
	"github.com/fairlead-net/fairlead/relay/head"
)

// A greeter is a head.Prompt: "hello" is answered by the same, and an address by "yes" or "no".
type greeter struct{}

func (greeter) Prompt() {}

func (greeter) Serve(ctx context.Context, client net.Conn, env head.Env) (head.Outcome, error) {
	r := bufio.NewReader(client)
	line, err := r.ReadString('\n')
	if err != nil || line != "hello\n" {
		return head.Outcome{}, fmt.Errorf("%q: %w", line, err)
	}
	if _, err := io.WriteString(client, line); err != nil {
		return head.Outcome{}, err
	}
	if line, err = r.ReadString('\n'); err != nil {
		return head.Outcome{}, err
	}
	if line == "listen\n" {
		_, err = env.Listen(ctx, "127.0.0.1", 1)
	}
	host, text, _ := net.SplitHostPort(strings.TrimSpace(line))
	port, _ := strconv.Atoi(text)
	var target net.Conn
	if err == nil {
		target, err = env.Dial(ctx, "tcp", host, uint16(port))
	}
	if err != nil {
		_, _ = io.WriteString(client, "no\n")
		return head.Outcome{}, err
	}
	ahead, _ := r.Peek(r.Buffered())
	_, err = io.WriteString(client, "yes\n")
	return head.Outcome{Target: target, Ahead: ahead}, err
}

// TestAsked has a node lead clients who say first where they go, whatever pieces that comes in; and has those who want more than that
// served by goroutines, from the beginning.
func TestAsked(t *testing.T) {
	n := &leadingNode{bearingNode: &bearingNode{Node: host.New()}}
	r := start(t, nil, Options{
		Heads: func(*forward.Forward) head.Head { return greeter{} },
		Nodes: func(name string) (node.Node, error) {
			if name == forward.Host {
				return host.New(), nil
			}
			return n, nil
		},
	})
	f := fwd(t, "p", "127.0.0.1:"+freePort(t), "socks")
	f.Via = "far"
	apply(t, r, f)
	target, nobody := serve(t, "tcp", "127.0.0.1:0", echo).String()+"\n", "127.0.0.2:"+freePort(t)+"\n"
	for i, c := range []struct {
		say, hear []string // in turn
		left      bool     // to a goroutine
	}{
		{say: []string{"hello\n", target, "ping"}, hear: []string{"hello\n", "yes\n", "ping"}},
		{say: []string{"hel", "lo\n" + target, "ping"}, hear: []string{"", "hello\nyes\n", "ping"}},
		{say: []string{"hello\n" + target[:5], target[5:], "ping"}, hear: []string{"hello\n", "yes\n", "ping"}},
		{say: []string{"hello\n", target + "ping"}, hear: []string{"hello\n", "yes\nping"}, left: true},
		{say: []string{"hello\n" + target + "ping"}, hear: []string{"hello\nyes\nping"}, left: true},
		{say: []string{"hello\n", nobody, ""}, hear: []string{"hello\n", "no\n", "EOF"}},
		{say: []string{"hello\n", "listen\n", ""}, hear: []string{"hello\n", "no\n", "EOF"}, left: true},
		{say: []string{"hello\n", strings.Repeat("x", mostAsked), "\n", ""}, hear: []string{"hello\n", "", "no\n", "EOF"}, left: true},
		{say: []string{"good day\n"}, hear: []string{"EOF"}, left: true},
	} {
		before, left := r.Stats()["p"], n.left.Load()
		conn := dial(t, "tcp", "127.0.0.1:"+f.Listen.Ports.String())
		for j, say := range c.say {
			if _, err := io.WriteString(conn, say); err != nil {
				t.Fatal(err)
			}
			if want := c.hear[j]; want == "EOF" {
				if _, err := conn.Read(make([]byte, 1)); err != io.EOF {
					t.Errorf("%d: at the end %v", i, err)
				}
			} else {
				got := make([]byte, len(want))
				if _, err := io.ReadFull(conn, got); err != nil || string(got) != want {
					t.Errorf("%d: after %q: %q, want %q: %v", i, say, got, want, err)
				}
			}
		}
		_ = conn.Close()
		eventually(t, "the session to end", func() bool { return len(r.tasks["p"].list()) == 0 })
		total, refused, in := uint64(1), uint64(0), uint64(4)
		if c.hear[len(c.hear)-1] == "EOF" {
			total, refused, in = 0, 1, 0
		}
		now := r.Stats()["p"]
		if now.Total-before.Total != total || now.Refused-before.Refused != refused || now.BytesIn-before.BytesIn != in {
			t.Errorf("%d: from %+v to %+v", i, before, now)
		}
		if got := n.left.Load() > left; got != c.left {
			t.Errorf("%d: left is %v", i, got)
		}
	}

	conn := dial(t, "tcp", "127.0.0.1:"+f.Listen.Ports.String())
	ask(t, conn, "hello\n")
	list, _ := r.Sessions()
	for _, s := range r.tasks["p"].list() {
		s.kill()
	}
	if len(list) > 1 {
		t.Errorf("sessions: %+v", list)
	}
	_ = conn.Close()
	eventually(t, "the session to end", func() bool { return len(r.tasks["p"].list()) == 0 })
}
