package health

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"

	"github.com/fairlead-net/fairlead/forward"
)

// A DialFunc connects to the target that is asked.
type DialFunc func(ctx context.Context) (net.Conn, error)

// maxAnswer is how many bytes of an answer are read.
const maxAnswer = 128 << 10

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
// that was asked about (RFC 9110, section 15.4). An http.Transport would not do: it logs what a server says unasked.
func get(ctx context.Context, c forward.Check, dial DialFunc) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+c.Host+c.Path, nil)
	if err != nil {
		return err // forward.ParseCheck lets no such URL in
	}
	req.Header.Set("User-Agent", "fairlead")
	req.Close = true
	conn, err := dial(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	if err := req.Write(conn); err != nil {
		return notHTTP(ctx, err)
	}
	code, err := readStatus(bufio.NewReader(io.LimitReader(conn, maxAnswer)), req)
	switch {
	case err != nil:
		return notHTTP(ctx, err)
	case code < 200 || code > 399:
		return fmt.Errorf("it answers GET %s with %s", c.Path, status(code))
	}
	return nil
}

// readStatus is the status of the final response (RFC 9110, section 15.2); interim ones come before it. The body is read as
// far as the limit lets it, so that most servers need not see a reset.
func readStatus(in *bufio.Reader, req *http.Request) (int, error) {
	for {
		resp, err := http.ReadResponse(in, req)
		if err != nil {
			return 0, err
		}
		if resp.StatusCode >= 200 || resp.StatusCode == http.StatusSwitchingProtocols {
			_, _ = io.Copy(io.Discard, resp.Body)
			_ = resp.Body.Close()
			return resp.StatusCode, nil
		}
	}
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
	var op *net.OpError
	switch {
	case ctx.Err() != nil:
		return errors.New("it accepts connections and does not answer GET")
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return errors.New("it closes the connection instead of answering GET")
	case errors.As(err, &op):
		return fmt.Errorf("it breaks off GET: %w", op.Err)
	}
	return errors.New("it does not speak HTTP")
}
