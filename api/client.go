package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"syscall"

	"github.com/fairlead-net/fairlead/config"
)

// hostName is the Host of every request: a unix socket has no name of its own, and a fixed one keeps others out.
const hostName = "fairlead"

// An UnreachableError says that no daemon answers at the socket.
type UnreachableError struct {
	Path string
	Err  error
}

func (e *UnreachableError) Error() string {
	reason := e.Err
	if op := new(net.OpError); errors.As(reason, &op) {
		reason = op.Err
	}
	return fmt.Sprintf("cannot reach the daemon at %s: %v", e.Path, reason)
}

// Advice is what to do about e.
func (e *UnreachableError) Advice() string {
	if errors.Is(e.Err, fs.ErrPermission) {
		return "the socket is for the daemon's user and root; run this as one of them"
	}
	return "start it with `fairlead up`, or say with --socket where it listens"
}

// NotRunning reports whether there is no daemon at all, rather than one that cannot be spoken to.
func (e *UnreachableError) NotRunning() bool {
	return errors.Is(e.Err, fs.ErrNotExist) || errors.Is(e.Err, syscall.ECONNREFUSED)
}

func (e *UnreachableError) Unwrap() error { return e.Err }

// A Client speaks to the daemon at one socket. Its errors are *Error for what the daemon refused and *UnreachableError when
// there is none.
type Client struct {
	path string
	http http.Client
}

// NewClient returns a Client for the socket at path. It connects when first used.
func NewClient(path string) *Client {
	return &Client{path: path, http: http.Client{Transport: &http.Transport{
		MaxIdleConns: 1,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			conn, err := new(net.Dialer).DialContext(ctx, "unix", path)
			if err != nil {
				return nil, &UnreachableError{Path: path, Err: err}
			}
			return conn, nil
		},
	}}}
}

// Close drops the idle connection.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Status is every forward sorted by name, or those that are named, in that order.
func (c *Client) Status(ctx context.Context, names ...string) ([]Forward, error) {
	var out struct{ Forwards []Forward }
	err := c.do(ctx, http.MethodGet, "/v1/status", url.Values{"name": names}, nil, &out)
	return out.Forwards, err
}

// Sessions is every live session, or those of one forward.
func (c *Client) Sessions(ctx context.Context, forward string) ([]Session, error) {
	query := url.Values{}
	if forward != "" {
		query.Set("forward", forward)
	}
	var out struct{ Sessions []Session }
	err := c.do(ctx, http.MethodGet, "/v1/sessions", query, nil, &out)
	return out.Sessions, err
}

// Kill ends one session.
func (c *Client) Kill(ctx context.Context, id string) error {
	return c.do(ctx, http.MethodDelete, "/v1/sessions/"+url.PathEscape(id), nil, nil, nil)
}

// Leases is every forward that a program of the LAN asked for, sorted by name.
func (c *Client) Leases(ctx context.Context) ([]Lease, error) {
	var out struct{ Leases []Lease }
	err := c.do(ctx, http.MethodGet, "/v1/leases", nil, nil, &out)
	return out.Leases, err
}

// Problems is what is wrong with the daemon's host that is no forward's fault, a line each.
func (c *Client) Problems(ctx context.Context) ([]string, error) {
	var out struct{ Problems []string }
	err := c.do(ctx, http.MethodGet, "/v1/problems", nil, nil, &out)
	return out.Problems, err
}

// Approve lets a lease in, or all leases of a device. The names are those of leases that waited.
func (c *Client) Approve(ctx context.Context, which string) (Judged, error) {
	return c.judge(ctx, which, "approve")
}

// Deny ends a lease, or all leases of a device, and has them refused from now on. The names are those of leases that were there.
func (c *Client) Deny(ctx context.Context, which string) (Judged, error) {
	return c.judge(ctx, which, "deny")
}

func (c *Client) judge(ctx context.Context, which, how string) (out Judged, err error) {
	err = c.do(ctx, http.MethodPost, "/v1/leases/"+url.PathEscape(which)+"/"+how, nil, nil, &out)
	return out, err
}

// Verdicts is what is remembered of whom leases were approved or denied, sorted by device.
func (c *Client) Verdicts(ctx context.Context) ([]Verdict, error) {
	var out struct{ Verdicts []Verdict }
	err := c.do(ctx, http.MethodGet, "/v1/verdicts", nil, nil, &out)
	return out.Verdicts, err
}

// Forget has nothing remembered of a lease, of one port of a device or of a device, and returns what was.
func (c *Client) Forget(ctx context.Context, which string) ([]Verdict, error) {
	var out struct{ Verdicts []Verdict }
	err := c.do(ctx, http.MethodDelete, "/v1/verdicts/"+url.PathEscape(which), nil, nil, &out)
	return out.Verdicts, err
}

// Apply moves the daemon to a file.
func (c *Client) Apply(ctx context.Context, req ApplyRequest) (out Applied, err error) {
	err = c.do(ctx, http.MethodPost, "/v1/apply", nil, req, &out)
	return out, err
}

// Confirm keeps what was applied with a time to confirm.
func (c *Client) Confirm(ctx context.Context) error {
	return c.do(ctx, http.MethodPost, "/v1/confirm", nil, nil, nil)
}

// Put adds a forward, or changes one that was added before.
func (c *Client) Put(ctx context.Context, name string, spec config.Spec) (out Forward, err error) {
	err = c.do(ctx, http.MethodPut, "/v1/forwards/"+url.PathEscape(name), nil, spec, &out)
	return out, err
}

// Delete removes a forward.
func (c *Client) Delete(ctx context.Context, name string) error {
	return c.do(ctx, http.MethodDelete, "/v1/forwards/"+url.PathEscape(name), nil, nil, nil)
}

// Wake sends magic packets to the cards of a forward.
func (c *Client) Wake(ctx context.Context, name string) ([]Woken, error) {
	var out struct{ Woken []Woken }
	err := c.do(ctx, http.MethodPost, "/v1/forwards/"+url.PathEscape(name)+"/wake", nil, nil, &out)
	return out.Woken, err
}

// Down takes away everything that the daemon carries and ends it.
func (c *Client) Down(ctx context.Context) error {
	return c.do(ctx, http.MethodPost, "/v1/down", nil, nil, nil)
}

// Upgrade has the daemon end in favour of another program, which goes on in its process. It has not yet when this returns.
func (c *Client) Upgrade(ctx context.Context, binary string) error {
	return c.do(ctx, http.MethodPost, "/v1/upgrade", nil, upgradeRequest{binary}, nil)
}

// Version is the daemon's.
func (c *Client) Version(ctx context.Context) (out Version, err error) {
	err = c.do(ctx, http.MethodGet, "/v1/version", nil, nil, &out)
	return out, err
}

// do sends in as JSON when it is not nil, and reads the answer into out when it is not nil.
func (c *Client) do(ctx context.Context, method, path string, query url.Values, in, out any) error {
	var body io.Reader
	if in != nil {
		text, err := json.Marshal(in)
		if err != nil {
			return err
		}
		body = bytes.NewReader(text)
	}
	to := "http://" + hostName + path
	if len(query) > 0 {
		to += "?" + query.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, method, to, body)
	if err != nil {
		return err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return c.unwrap(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return readError(resp)
	}
	if out == nil {
		_, err = io.Copy(io.Discard, resp.Body)
	} else {
		err = json.NewDecoder(resp.Body).Decode(out)
	}
	if err != nil {
		return fmt.Errorf("the daemon's answer broke off: %w", err)
	}
	return nil
}

// unwrap takes off the method and URL that net/http puts before an error; they mean nothing to who typed a command.
func (c *Client) unwrap(err error) error {
	if away := new(UnreachableError); errors.As(err, &away) {
		return away
	}
	if wrapped := new(url.Error); errors.As(err, &wrapped) {
		err = wrapped.Err
	}
	return fmt.Errorf("the daemon at %s did not answer: %w", c.path, err)
}

func readError(resp *http.Response) error {
	text, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	var body errorBody
	if err == nil && json.Unmarshal(text, &body) == nil && body.Error != nil && body.Error.Message != "" {
		body.Error.status = resp.StatusCode
		return body.Error
	}
	return &Error{
		Message: "the answer was " + resp.Status + " and did not come from a fairlead daemon of this version", Code: CodeUnknown,
		Hint: "`fairlead version` shows both versions", status: resp.StatusCode,
	}
}
