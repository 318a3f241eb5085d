package e2e

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fairlead-net/fairlead/internal/netlab"
)

// A manager does for a daemon what systemd does: it listens to what it is told, keeps the descriptor that it is given, and
// gives it to the next process.
type manager struct {
	t    testing.TB
	conn *net.UnixConn
	path string

	mu      sync.Mutex
	stored  *os.File
	removed int
}

func newManager(t testing.TB) *manager {
	t.Helper()
	m := &manager{t: t, path: filepath.Join(t.TempDir(), "notify")}
	var err error
	if m.conn, err = net.ListenUnixgram("unixgram", &net.UnixAddr{Name: m.path, Net: "unixgram"}); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(m.path, 0o777); err != nil {
		t.Fatal(err)
	}
	listening := make(chan struct{})
	go func() {
		defer close(listening)
		m.listen()
	}()
	t.Cleanup(func() {
		m.conn.Close()
		<-listening
		m.drop()
	})
	return m
}

func (m *manager) listen() {
	buf, rights := make([]byte, 4096), make([]byte, 256)
	for {
		n, size, _, _, err := m.conn.ReadMsgUnix(buf, rights)
		if err != nil {
			return
		}
		var fds []int
		messages, _ := unix.ParseSocketControlMessage(rights[:size])
		for i := range messages {
			some, _ := unix.ParseUnixRights(&messages[i])
			fds = append(fds, some...)
		}
		m.told(string(buf[:n]), fds)
	}
}

func (m *manager) told(state string, fds []int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case strings.HasPrefix(state, "FDSTORE=1") && len(fds) == 1 && m.stored == nil:
		if !strings.Contains(state, "\nFDNAME=fairlead-handover") || !strings.Contains(state, "\nFDPOLL=0") {
			m.t.Errorf("told %q", state)
		}
		unix.CloseOnExec(fds[0])
		m.stored = os.NewFile(uintptr(fds[0]), "stored")
		return
	case strings.HasPrefix(state, "FDSTOREREMOVE=1"):
		m.removed++
		if m.stored != nil {
			m.stored.Close()
			m.stored = nil
		}
	case len(fds) > 0 && state != "BARRIER=1":
		m.t.Errorf("told %q, with %d descriptors", state, len(fds))
	}
	for _, fd := range fds {
		unix.Close(fd)
	}
}

// drop forgets what is stored.
func (m *manager) drop() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.stored != nil {
		m.stored.Close()
		m.stored = nil
	}
}

// taken is how often what was stored has been taken over.
func (m *manager) taken() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.removed
}

// start starts a process of the daemon and waits until it serves.
func (m *manager) start(d *daemon) {
	m.t.Helper()
	d.proc = m.launch(d)
	d.wait("the daemon has seen to its forwards", func() bool {
		out, err := d.try("status", "--json")
		return err == nil && !strings.Contains(out, "not carried yet")
	})
}

// launch starts a process of the daemon, with what is stored and a descriptor that it has no use for.
func (m *manager) launch(d *daemon) *netlab.Process {
	m.t.Helper()
	cmd := d.node.Command(context.Background(), "sh", append([]string{"-c", `LISTEN_PID=$$ exec "$0" "$@"`, binary},
		d.args("up", "-c", d.file(), "--log-level", "debug")...)...)
	cmd.Env = append(os.Environ(), "NOTIFY_SOCKET="+m.path)
	m.mu.Lock()
	if m.stored != nil {
		null, err := os.Open(os.DevNull)
		if err != nil {
			m.t.Fatal(err)
		}
		defer null.Close()
		cmd.ExtraFiles = []*os.File{null, m.stored}
		cmd.Env = append(cmd.Env, "LISTEN_FDS=2", "LISTEN_FDNAMES=other:fairlead-handover")
	}
	proc, err := d.node.StartCommand(cmd)
	m.mu.Unlock()
	if err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(func() {
		_ = proc.Stop()
		if m.t.Failed() {
			m.t.Logf("a daemon wrote:\n%s", proc.Output())
		}
	})
	return proc
}

// stop ends the process and reports whether it has left something.
func (m *manager) stop(d *daemon) bool {
	m.t.Helper()
	if err := d.proc.Stop(); err != nil {
		m.t.Errorf("the daemon ended with %v", err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.stored != nil
}

// pour sends random bytes through an echo, and reports by the channel when it has been told to end and all came back.
func pour(conn net.Conn, stop <-chan struct{}) <-chan error {
	var sent atomic.Uint64
	seed := [32]byte{1}
	go func() {
		source, buf := rand.NewChaCha8(seed), make([]byte, 16<<10)
		for {
			select {
			case <-stop:
				_ = conn.(*net.TCPConn).CloseWrite()
				return
			default:
			}
			_, _ = source.Read(buf)
			if _, err := conn.Write(buf); err != nil {
				return // seen by the reader, too
			}
			sent.Add(uint64(len(buf)))
			time.Sleep(200 * time.Microsecond) // 80 MB/s at the most: the others need the processors, too
		}
	}()
	done := make(chan error, 1)
	go func() {
		source, buf, want := rand.NewChaCha8(seed), make([]byte, 16<<10), make([]byte, 16<<10)
		for one := make([]byte, 1); one[0] != '\n'; { // the greeting
			if _, err := io.ReadFull(conn, one); err != nil {
				done <- err
				return
			}
		}
		for got := uint64(0); ; got += uint64(len(buf)) {
			_, _ = source.Read(want)
			if n, err := io.ReadFull(conn, buf); err == io.EOF && got == sent.Load() {
				done <- nil
				return
			} else if err != nil {
				done <- fmt.Errorf("after %d of %d bytes: %w", got+uint64(n), sent.Load(), err)
				return
			}
			if string(buf) != string(want) {
				done <- fmt.Errorf("other bytes than were sent after %d", got)
				return
			}
		}
	}()
	return done
}

// TestRestart ends the daemon and starts it anew, as systemd does, again and again, while clients come and go: nobody is refused
// or reset, and those who talk go on talking. At last it is stopped for good: then all ends, by a reset.
func TestRestart(t *testing.T) {
	lab := netlab.Gateway(t)
	lab.Server.Echo(t, "[::]:8080")
	m := newManager(t)
	d := &daemon{t: t, node: lab.Host, dir: t.TempDir()}
	path := filepath.Join(d.dir, "listen")
	text := `[forward.relayed]
listen = "tcp/9000"
to = "192.168.1.10:8080"
carry = "relay"
[forward.datagrams]
listen = "udp/9003"
to = "192.168.1.10:8080"
carry = "relay"
[forward.local]
listen = "unix:` + path + `"
to = "192.168.1.10:8080"
`
	d.write(text)
	m.start(d)
	at := "/" + netlab.RouterWAN4 + ":"
	local, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer local.Close()
	talks := []*talk{
		dial(t, lab.Client, "tcp"+at+"9000"), dial(t, lab.Client, "tcp"+at+"9000"), dial(t, lab.Client, "udp"+at+"9003"),
		{t: t, conn: local, name: path},
	}
	for _, k := range talks {
		k.say()
	}
	stop := make(chan struct{})
	poured := pour(dial(t, lab.Client, "tcp"+at+"9000").conn, stop)
	callers := keepCalling(t, 2, 0, lab.Client, "tcp", netlab.RouterWAN4+":9000")
	for round := range 3 {
		since := callers.calls.Load()
		pid := d.proc.Pid()
		if !m.stop(d) {
			t.Fatal("the daemon has left nothing")
		}
		if round == 0 { // whoever asks meanwhile is answered later
			early := dial(t, lab.Client, "tcp"+at+"9000")
			talks = append(talks, early)
		}
		if round == 1 { // the path of a unix socket may be cleared away
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
		}
		if round == 2 { // a process that does not come up takes nothing with it
			d.write("nonsense = 1")
			ctx, cancel := context.WithTimeout(t.Context(), 15*time.Second)
			if err := m.launch(d).Wait(ctx); err == nil || ctx.Err() != nil {
				t.Errorf("with a bad file the daemon ends with %v", err)
			}
			cancel()
			d.write(text)
		}
		m.start(d)
		waitFor(t, "the manager has read that it was taken over", func() bool { return m.taken() > round })
		if d.proc.Pid() == pid || m.taken() != round+1 || !strings.Contains(d.proc.Output(), "not for this program") {
			t.Errorf("round %d: the process is %d after %d, and took over %d times; %s", round, d.proc.Pid(), pid, m.taken(), d.proc.Output())
		}
		for _, k := range talks {
			k.say()
		}
		if c, err := net.Dial("unix", path); err != nil {
			t.Errorf("round %d: %v", round, err)
		} else {
			(&talk{t: t, conn: c, name: path}).say()
			c.Close()
		}
		waitFor(t, "more calls", func() bool { return callers.calls.Load() >= since+20 || t.Failed() })
	}
	close(stop)
	callers.stop()
	select {
	case err := <-poured:
		if err != nil {
			t.Errorf("a stream without a pause: %v", err)
		}
	case <-time.After(30 * time.Second):
		t.Error("a stream without a pause has stopped")
	}
	t.Logf("%d calls during three restarts", callers.calls.Load())
	waitFor(t, "all sessions to be counted once", func() bool {
		f := d.status()["relayed"]
		return f.Connections.Total == uint64(callers.calls.Load())+4 && f.Connections.Open == 3 && f.Connections.Refused == 0
	})
	if list := d.sessions("datagrams"); len(list) != 1 || list[0].Bytes.In == 0 {
		t.Errorf("flows: %+v", list)
	}

	m.stop(d)
	if !lab.Host.Listening("tcp", 9000) || !lab.Host.Listening("udp", 9003) {
		t.Error("what is stored does not listen")
	}
	m.drop()
	waitFor(t, "the ports are free", func() bool { return !lab.Host.Listening("tcp", 9000) && !lab.Host.Listening("udp", 9003) })
	if err := talks[0].trySay(); err == nil || !strings.Contains(err.Error(), syscall.ECONNRESET.Error()) {
		t.Errorf("a session after the stop: %v, want a reset", err)
	}
}
