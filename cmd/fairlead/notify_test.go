package main

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/rogpeppe/go-internal/testscript"
)

// A manager is the service manager's end of sd_notify(3).
type manager struct {
	*net.UnixConn
	mu   sync.Mutex
	said []string
}

func (m *manager) read() {
	buf := make([]byte, 4096)
	for {
		n, err := m.Read(buf)
		if err != nil {
			return
		}
		m.mu.Lock()
		m.said = append(m.said, strings.TrimSpace(string(buf[:n])))
		m.mu.Unlock()
	}
}

// heard takes everything up to and with the first message that begins so, and reports whether there was one.
func (m *manager) heard(prefix string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i, s := range m.said {
		if strings.HasPrefix(s, prefix) {
			m.said = m.said[i+1:]
			return true
		}
	}
	return false
}

// managers is by script, which may run at the same time.
var managers sync.Map

// notify: a service manager that listens for what the daemon tells it.
func scriptNotify(ts *testscript.TestScript, _ bool, _ []string) {
	path := filepath.Join(ts.Getenv("WORK"), "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	ts.Check(err)
	ts.Check(os.Chmod(path, 0o777))
	ts.Setenv("NOTIFY_SOCKET", path)
	m := &manager{UnixConn: conn}
	go m.read()
	managers.Store(path, m)
	ts.Defer(func() { m.Close() })
}

// notified PREFIX: waits until the manager was told something that begins so, after what it was told before.
func scriptNotified(ts *testscript.TestScript, _ bool, args []string) {
	m, _ := managers.Load(ts.Getenv("NOTIFY_SOCKET"))
	if !retry(func() bool { return m.(*manager).heard(args[0]) }) {
		ts.Fatalf("the service manager was not told %s", args[0])
	}
}
