package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"github.com/fairlead-net/fairlead/config"
	"github.com/fairlead-net/fairlead/forward"
	"github.com/fairlead-net/fairlead/table"
)

// The codes of an Error, for programs; people read the message and the hint.
const (
	CodeInvalid   = "invalid"    // the request or the file in it is wrong
	CodeNotFound  = "not_found"  // no such forward, session or address
	CodeConflict  = "conflict"   // it contradicts something that is there
	CodeForbidden = "forbidden"  // not over this socket, or not in this way
	CodeTooLarge  = "too_large"  // the body is over its limit
	CodeBusy      = "busy"       // too much at once; try again
	CodeFailed    = "failed"     // understood, tried, failed
	CodeUnknown   = "unexpected" // the answer did not come from a daemon that speaks this interface
)

// ErrNoSession is what Sessions.Kill wraps when no live session has the id.
var ErrNoSession = errors.New("no such session")

// ErrNoLease is what Leases wraps when neither a lease nor a device is meant.
var ErrNoLease = errors.New("no lease and no device")

// An Error is a refusal or a failure as it crosses the socket: {"error":{"message":…,"hint":…,"code":…}}.
type Error struct {
	Message string `json:"message"`
	Hint    string `json:"hint,omitempty"`
	Code    string `json:"code"`
	// Problems is everything that is wrong with a file, each with its place.
	Problems config.Errors `json:"problems,omitempty"`

	status int // HTTP status on the server's side
}

func (e *Error) Error() string { return e.Message }

// Advice is what to do about e, or "".
func (e *Error) Advice() string { return e.Hint }

// Unwrap is Problems when there are any.
func (e *Error) Unwrap() error {
	if len(e.Problems) == 0 {
		return nil
	}
	return e.Problems
}

type errorBody struct {
	Error *Error `json:"error"`
}

// errorOf finds the code, status and hint for what the rooms below return.
func errorOf(err error) *Error {
	var known *Error
	if errors.As(err, &known) {
		return known
	}
	e := &Error{Message: err.Error(), Code: CodeFailed, status: http.StatusInternalServerError}
	var advised interface{ Advice() string }
	if errors.As(err, &advised) {
		e.Hint = advised.Advice()
	}
	var (
		inFile   config.Errors
		inField  *forward.FieldError
		conflict *table.ConflictError
		tie      *forward.TieError
		pending  *table.PendingError
		tooLarge *http.MaxBytesError
	)
	switch {
	case errors.As(err, &inFile):
		e.Code, e.status, e.Problems = CodeInvalid, http.StatusUnprocessableEntity, inFile
	case errors.As(err, &inField):
		e.Code, e.status = CodeInvalid, http.StatusUnprocessableEntity
	case errors.As(err, &conflict), errors.As(err, &tie), errors.As(err, &pending):
		e.Code, e.status = CodeConflict, http.StatusConflict
	case errors.Is(err, table.ErrNothingPending):
		e.Code, e.status = CodeConflict, http.StatusConflict
		e.Hint = "either nothing was applied with --confirm, or its time is over and it was taken back; `fairlead status` shows what holds"
	case errors.Is(err, ErrNoLease):
		e.Code, e.status = CodeNotFound, http.StatusNotFound
		e.Hint = "`fairlead leases` shows the leases and their clients; a device is named by its hardware or IP address"
	case errors.Is(err, table.ErrNotFound), errors.Is(err, ErrNoSession):
		e.Code, e.status = CodeNotFound, http.StatusNotFound
	case errors.As(err, &tooLarge):
		e.Code, e.status = CodeTooLarge, http.StatusRequestEntityTooLarge
		e.Message = fmt.Sprintf("the request is larger than %d bytes", tooLarge.Limit)
	case errors.Is(err, table.ErrStopped), errors.Is(err, context.Canceled):
		e.Message, e.Code, e.status = table.ErrStopped.Error(), CodeBusy, http.StatusServiceUnavailable
	}
	return e
}

func writeError(w http.ResponseWriter, err error) {
	e := errorOf(err)
	w.Header().Set("Content-Type", "application/json")
	if e.status == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", "1")
	}
	w.WriteHeader(e.status)
	_ = json.NewEncoder(w).Encode(errorBody{Error: e}) // the client is gone when this fails
}

func refuse(status int, code, message, hint string) *Error {
	return &Error{Message: message, Hint: hint, Code: code, status: status}
}
