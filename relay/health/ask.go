package health

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/textproto"

	"github.com/fairlead-net/fairlead/forward"
)

// A DialFunc connects to the target that is asked.
type DialFunc func(ctx context.Context) (net.Conn, error)

const (
	maxHeader = 64 << 10 // bytes of an answer's header
	maxBody   = 64 << 10 // bytes of an answer's body that are read, so that the server need not see a reset
)

// Ask checks a target once, as c says, and returns nil when it is well. ctx bounds it. An error of dial is returned as it
// is; the others need no words before them.
func Ask(ctx context.Context, c forward.Check, dial DialFunc) error {
	if c.Kind == forward.CheckHTTP {
		return get(ctx, c, dial)
	}
	conn, err := dial(ctx)
	if err != nil {
		return err
	}
	return conn.Close()
}

// get sends one GET on a connection of its own. A redirection is an answer like any other: where it leads is not the target
// that was asked about (RFC 9110, section 15.4).
func get(ctx context.Context, c forward.Check, dial DialFunc) error {
	var dialErr error
	transport := &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (conn net.Conn, err error) {
			conn, dialErr = dial(ctx)
			return conn, dialErr
		},
		DisableKeepAlives: true, DisableCompression: true, MaxResponseHeaderBytes: maxHeader,
	}
	defer transport.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+c.Host+c.Path, nil)
	if err != nil {
		return err // forward.ParseCheck lets no such URL in
	}
	req.Header.Set("User-Agent", "fairlead")
	resp, err := transport.RoundTrip(req)
	switch {
	case dialErr != nil:
		return dialErr
	case err != nil:
		return notHTTP(ctx, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode < 200 || resp.StatusCode > 399 {
		return fmt.Errorf("it answers GET %s with %s", c.Path, status(resp.StatusCode))
	}
	_, _ = io.CopyN(io.Discard, resp.Body, maxBody) // the status has said it; a large body is nobody's fault
	return nil
}

// status is a code with the words that belong to it, rather than those that the server sent.
func status(code int) string {
	if text := http.StatusText(code); text != "" {
		return fmt.Sprintf("%d %s", code, text)
	}
	return fmt.Sprint(code)
}

// notHTTP says in a few words why a connection that came about brought no answer. What a server sent is not repeated: it
// would end up on somebody's terminal.
func notHTTP(ctx context.Context, err error) error {
	var protocol textproto.ProtocolError
	var timeout net.Error
	switch {
	case ctx.Err() != nil, errors.As(err, &timeout) && timeout.Timeout():
		return errors.New("it accepts connections and does not answer GET")
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return errors.New("it closes the connection instead of answering GET")
	case errors.As(err, &protocol):
		return errors.New("it does not speak HTTP")
	}
	var op *net.OpError
	if errors.As(err, &op) {
		return fmt.Errorf("it breaks off GET: %w", op.Err)
	}
	return errors.New("it does not speak HTTP")
}
