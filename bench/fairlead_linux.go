package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/fairlead-net/fairlead/internal/netlab"
)

// startTimeout is how long the daemon may take to be ready, the largest configuration included.
const startTimeout = 60 * time.Second

// errNoFairlead is for runs with -fairlead none.
var errNoFairlead = errors.New("left out by -fairlead none")

// A daemon is "fairlead up" on a host.
type daemon struct {
	*netlab.Process
	program string
	node    *netlab.Node
	socket  string
	http    *http.Client
	ready   time.Duration // from its start until it said that all is applied
}

// up starts the daemon with a configuration and waits until it says that it is ready, as a service manager would.
func (b *bench) up(ctx context.Context, n *netlab.Node, config string) (*daemon, error) {
	if b.fairlead == "" {
		return nil, errNoFairlead
	}
	return b.upProgram(ctx, b.fairlead, n, config)
}

func (b *bench) upProgram(ctx context.Context, program string, n *netlab.Node, config string) (*daemon, error) {
	return b.upWith(ctx, program, n, config, nil)
}

// upWith starts the daemon after something was done with its state directory.
func (b *bench) upWith(ctx context.Context, program string, n *netlab.Node, config string, before func(state string) error) (*daemon, error) {
	dir, err := os.MkdirTemp(b.dir, "up-")
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		return nil, err
	}
	file := filepath.Join(dir, "fairlead.toml")
	if err := os.WriteFile(file, []byte(config), 0o644); err != nil {
		return nil, err
	}
	state := filepath.Join(dir, "state")
	if before != nil {
		if err := before(state); err != nil {
			return nil, err
		}
	}
	notify, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(dir, "notify"), Net: "unixgram"})
	if err != nil {
		return nil, err
	}
	defer notify.Close()
	if err := os.Chmod(filepath.Join(dir, "notify"), 0o666); err != nil {
		return nil, err
	}
	d := &daemon{program: program, node: n, socket: filepath.Join(dir, "fairlead.sock")}
	d.http = &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{
		MaxIdleConnsPerHost: 1,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", d.socket)
		},
	}}
	cmd := n.Command(context.Background(), d.program, "up", "-c", file, "--socket", d.socket, "--state", state)
	cmd.Env = append(os.Environ(), "NOTIFY_SOCKET="+filepath.Join(dir, "notify"))
	began := time.Now()
	if d.Process, err = n.StartCommand(cmd); err != nil {
		return nil, err
	}
	if err := d.waitReady(ctx, notify); err != nil {
		_ = d.Stop()
		return nil, fmt.Errorf("fairlead up: %w: %s", err, tail(d.Output()))
	}
	d.ready = time.Since(began)
	return d, nil
}

// waitReady reads what the daemon tells its service manager, see sd_notify(3).
func (d *daemon) waitReady(ctx context.Context, notify *net.UnixConn) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	ended := make(chan struct{})
	defer close(ended)
	go func() {
		select {
		case <-d.Done():
		case <-ctx.Done():
		case <-ended:
			return
		}
		_ = notify.SetReadDeadline(time.Now()) // wakes the reader
	}()
	for buf := make([]byte, 4096); ; {
		n, err := notify.Read(buf)
		if err != nil {
			select {
			case <-d.Done():
				return fmt.Errorf("it has ended: %w", d.Wait(context.Background()))
			default:
				return fmt.Errorf("it is not ready: %w", context.Cause(ctx))
			}
		}
		if strings.Contains("\n"+string(buf[:n]), "\nREADY=1") {
			return nil
		}
	}
}

// ask makes a request to the control socket, over a connection that is kept open, and decodes the answer into out.
func (d *daemon) ask(ctx context.Context, method, path string, in, out any) error {
	var body io.Reader
	if in != nil {
		text, err := json.Marshal(in)
		if err != nil {
			return err
		}
		body = bytes.NewReader(text)
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://fairlead"+path, body)
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := d.http.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	switch {
	case err != nil:
		return err
	case resp.StatusCode/100 != 2:
		return fmt.Errorf("%s %s: %s: %s", method, path, resp.Status, oneLine(string(text)))
	case out == nil:
		return nil
	}
	return json.Unmarshal(text, out)
}

// carried fails unless all of the daemon's forwards are up, as many as wanted, and all carried as wanted.
func (d *daemon) carried(ctx context.Context, want int, by string) error {
	var status struct {
		Forwards []struct{ Name, State, Carried, Why, Detail string }
	}
	if err := d.ask(ctx, http.MethodGet, "/v1/status", nil, &status); err != nil {
		return err
	}
	if len(status.Forwards) != want {
		return fmt.Errorf("fairlead has %d forwards, not %d", len(status.Forwards), want)
	}
	for _, f := range status.Forwards {
		if f.State != "up" || f.Carried != by {
			return fmt.Errorf("forward %s is %s by %q, not by the %s: %s %s", f.Name, f.State, f.Carried, by, f.Why, f.Detail)
		}
	}
	return nil
}

// command runs "fairlead ARGS" against the daemon, with the time it took.
func (d *daemon) command(ctx context.Context, args ...string) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	cmd := d.node.Command(ctx, d.program, append(args, "--socket", d.socket)...)
	began := time.Now()
	out, err := cmd.CombinedOutput()
	if err != nil {
		return 0, fmt.Errorf("fairlead %s: %w: %s", strings.Join(args, " "), err, tail(string(out)))
	}
	return time.Since(began), nil
}

// down ends the daemon by "fairlead down", which takes its rules away, with the time it took. A daemon that does not end so is
// killed.
func (d *daemon) down(ctx context.Context) (time.Duration, error) {
	defer d.http.CloseIdleConnections()
	d.resume()
	took, err := d.command(ctx, "down")
	if err != nil {
		return 0, errors.Join(err, d.Stop())
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	if err := d.Wait(ctx); err != nil {
		return 0, errors.Join(err, d.Stop())
	}
	return took, nil
}

// pause keeps a daemon that is not being measured from taking part in the measurement of another.
func (d *daemon) pause()  { d.Signal(syscall.SIGSTOP) }
func (d *daemon) resume() { d.Signal(syscall.SIGCONT) }

// tail is the end of a program's output, where it says why.
func tail(s string) string {
	s = strings.TrimSpace(s)
	if len(s) > 500 {
		s = "…" + strings.ToValidUTF8(s[len(s)-500:], "")
	}
	return s
}
