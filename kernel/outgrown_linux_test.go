package kernel_test

import (
	"bufio"
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/fairlead-net/fairlead/forward"
	"github.com/fairlead-net/fairlead/internal/netlab"
)

// TestOutgrown adds forwards until a set that was made for many is too small for them: a session that is open and all that
// was counted are still there when the table has been made anew, and so is every forward. Another process does the same with a
// table that it finds.
func TestOutgrown(t *testing.T) {
	t.Run("by who made it", func(t *testing.T) { outgrown(t, false) })
	t.Run("by another process", func(t *testing.T) { outgrown(t, true) })
}

func outgrown(t *testing.T, another bool) {
	lab := netlab.Gateway(t)
	lab.Server.Echo(t, "[::]:8080")
	web := fwd(t, "web 80 192.168.1.10:8080")
	forwards := func(n int) []*forward.Forward {
		out := make([]*forward.Forward, 0, n+1)
		for i := range n {
			out = append(out, fwd(t, fmt.Sprintf("f%05d %d 192.168.1.10:8080", i, 1000+i)))
		}
		return append(out, web)
	}
	c := newCarrier(t, lab.Host)
	want := forwards(1100)
	c.apply(want)
	if !strings.Contains(lab.Host.Run(t, "nft", "-t", "list", "table", "inet", "fairlead"), "size 4096") {
		t.Fatal("the sets have no size: this test tests nothing")
	}
	visit{by: lab.Client, to: "tcp/" + netlab.RouterWAN4 + ":80", node: "server", seen: "client"}.check(t)
	conn, err := lab.Client.Dial(context.Background(), "tcp", netlab.RouterWAN4+":80")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	lines := bufio.NewReader(conn)
	if _, err := lines.ReadString('\n'); err != nil { // the greeting
		t.Fatal(err)
	}
	before := c.stats()["web"]

	if another {
		_ = c.Close()
		c = newCarrier(t, lab.Host)
	}
	added := forwards(4500)
	copy(added, want[:1100]) // the same forwards, not others like them
	c.apply(added)
	if got := c.stats()["web"]; got.Total < before.Total || got.BytesIn < before.BytesIn || before.Total != 2 {
		t.Errorf("counted before %+v, after %+v", before, got)
	}
	visit{by: lab.Client, to: "tcp/" + netlab.RouterWAN4 + ":5499", node: "server", seen: "client"}.check(t)
	if _, err := conn.Write([]byte("x\n")); err != nil {
		t.Error(err)
	}
	if got, err := lines.ReadString('\n'); got != "x\n" {
		t.Errorf("the open session said %q, %v", got, err)
	}
	var add, del int
	_ = lab.Host.Do(func() error { add, del, err = c.Drift(slices.Clone(added)); return nil })
	if add != 0 || del != 0 || err != nil {
		t.Errorf("the kernel misses %d elements and has %d too many: %v", add, del, err)
	}
	c.apply(want)
	if got := c.stats()["web"]; got.Total < before.Total {
		t.Errorf("counted before %+v, after %+v", before, got)
	}
}
