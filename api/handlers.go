package api

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"slices"
	"time"

	"github.com/fairlead-net/fairlead/config"
	"github.com/fairlead-net/fairlead/forward"
	"github.com/fairlead-net/fairlead/table"
)

func (s *Server) status(w http.ResponseWriter, r *http.Request) {
	all := s.Table.Snapshot()
	names := r.URL.Query()["name"]
	if len(names) == 0 {
		writeList(w, "forwards", len(all), func(i int) any { return s.forwardOf(all[i]) })
		return
	}
	at := make(map[string]int, len(all))
	for i, st := range all {
		at[st.Forward.Name] = i
	}
	picked := make([]int, len(names))
	for i, name := range names {
		var ok bool
		if picked[i], ok = at[name]; !ok {
			writeError(w, noForward(name))
			return
		}
	}
	writeList(w, "forwards", len(picked), func(i int) any { return s.forwardOf(all[picked[i]]) })
}

// forwardOf is a forward with all that is known of it.
func (s *Server) forwardOf(st table.Status) Forward {
	out := ForwardOf(st)
	if s.Published != nil {
		if state, ok := s.Published(st.Forward.Name); ok {
			shown := PublishedOf(state)
			out.Published = &shown
		}
	}
	return out
}

func (s *Server) sessions(w http.ResponseWriter, r *http.Request) {
	name := r.URL.Query().Get("forward")
	if name != "" && !s.has(name) {
		writeError(w, noForward(name))
		return
	}
	all, err := s.Sessions.Sessions(name)
	if err != nil {
		writeError(w, err)
		return
	}
	writeList(w, "sessions", len(all), func(i int) any { return SessionOf(all[i]) })
}

func (s *Server) has(name string) bool { return s.find(name) != nil }

// find is the forward with a name, or nil.
func (s *Server) find(name string) *forward.Forward {
	for _, st := range s.Table.Snapshot() {
		if st.Forward.Name == name {
			return st.Forward
		}
	}
	return nil
}

func noForward(name string) *Error {
	return refuse(http.StatusNotFound, CodeNotFound, fmt.Sprintf("no forward is called %q", name), "`fairlead status` lists them all")
}

func (s *Server) kill(w http.ResponseWriter, r *http.Request) {
	if err := s.Sessions.Kill(r.PathValue("id")); err != nil {
		writeError(w, err)
		return
	}
	s.Log.Info("session killed", "session", r.PathValue("id"))
	writeJSON(w, struct{}{})
}

func (s *Server) leases(w http.ResponseWriter, _ *http.Request) {
	all := slices.DeleteFunc(s.Table.Snapshot(), func(st table.Status) bool { return st.Forward.Lease == nil })
	now := time.Now()
	writeList(w, "leases", len(all), func(i int) any { return LeaseOf(all[i], now) })
}

func (s *Server) problems(w http.ResponseWriter, _ *http.Request) {
	var list []string
	if s.Problems != nil {
		list = s.Problems()
	}
	writeList(w, "problems", len(list), func(i int) any { return list[i] })
}

// judge answers with the leases that changed.
func (s *Server) judge(do func(ctx context.Context, which string) (Judged, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		out, err := do(r.Context(), r.PathValue("which"))
		if err != nil {
			writeError(w, err)
			return
		}
		out.Leases = list(out.Leases)
		writeJSON(w, out)
	}
}

func (s *Server) verdicts(w http.ResponseWriter, _ *http.Request) {
	all := s.Leases.Verdicts()
	writeList(w, "verdicts", len(all), func(i int) any { return all[i] })
}

// forget answers with what is not remembered any more.
func (s *Server) forget(w http.ResponseWriter, r *http.Request) {
	gone, err := s.Leases.Forget(r.Context(), r.PathValue("which"))
	if err != nil {
		writeError(w, err)
		return
	}
	writeList(w, "verdicts", len(gone), func(i int) any { return gone[i] })
}

func (s *Server) apply(w http.ResponseWriter, r *http.Request) {
	select {
	case s.files <- struct{}{}:
		defer func() { <-s.files }()
	default:
		writeError(w, refuse(http.StatusServiceUnavailable, CodeBusy, "other files are being applied", "try again in a moment"))
		return
	}
	var req ApplyRequest
	if err := readJSON(w, r, maxFileBody, &req); err != nil {
		writeError(w, err)
		return
	}
	applied, err := s.Apply(r.Context(), req)
	if err != nil {
		writeError(w, err)
		return
	}
	writeJSON(w, applied)
}

func (s *Server) confirm(w http.ResponseWriter, r *http.Request) {
	if err := s.Table.Confirm(r.Context()); err != nil {
		writeError(w, err)
		return
	}
	writeJSON(w, struct{}{})
}

func (s *Server) put(w http.ResponseWriter, r *http.Request) {
	var spec config.Spec
	if err := readJSON(w, r, maxBody, &spec); err != nil {
		writeError(w, err)
		return
	}
	f, err := spec.Forward(r.PathValue("name"), forward.OriginAPI)
	if err != nil {
		writeError(w, err)
		return
	}
	st, err := s.Table.Put(r.Context(), f)
	if err != nil {
		writeError(w, err)
		return
	}
	writeJSON(w, s.forwardOf(st))
}

func (s *Server) remove(w http.ResponseWriter, r *http.Request) {
	if err := s.Table.Delete(r.Context(), r.PathValue("name")); err != nil {
		writeError(w, err)
		return
	}
	writeJSON(w, struct{}{})
}

func (s *Server) wake(w http.ResponseWriter, r *http.Request) {
	f := s.find(r.PathValue("name"))
	if f == nil {
		writeError(w, noForward(r.PathValue("name")))
		return
	}
	if len(f.Wake.MACs) == 0 {
		writeError(w, NothingToWake(f.Name))
		return
	}
	woken, err := s.Wake(r.Context(), f)
	if err != nil {
		writeError(w, err)
		return
	}
	s.Log.Info("magic packets sent", "forward", f.Name)
	writeList(w, "woken", len(woken), func(i int) any { return woken[i] })
}

// NothingToWake is the refusal for a forward that does not say whom to wake.
func NothingToWake(name string) *Error {
	return refuse(http.StatusUnprocessableEntity, CodeInvalid, fmt.Sprintf("forward %q does not say whom to wake", name),
		"give it wake = \"aa:bb:cc:dd:ee:ff\", the hardware address of its target")
}

// takeDown answers only when everything is gone, so that the client can believe it.
func (s *Server) takeDown(w http.ResponseWriter, r *http.Request) {
	if err := s.Down(r.Context()); err != nil {
		writeError(w, err)
		return
	}
	writeJSON(w, struct{}{})
	s.isDown.Do(func() { close(s.down) })
}

// An upgradeRequest names the program that is to go on in the daemon's place.
type upgradeRequest struct {
	Binary string `json:"binary"` // absolute path
}

// takeUpgrade answers when the program has shown that it can stand in; then the daemon ends.
func (s *Server) takeUpgrade(w http.ResponseWriter, r *http.Request) {
	var in upgradeRequest
	if err := readJSON(w, r, maxBody, &in); err != nil {
		writeError(w, err)
		return
	}
	if !filepath.IsAbs(in.Binary) {
		writeError(w, refuse(http.StatusUnprocessableEntity, CodeInvalid, fmt.Sprintf("%q is no absolute path of a program", in.Binary), ""))
		return
	}
	if err := s.Upgrade(r.Context(), in.Binary); err != nil {
		writeError(w, err)
		return
	}
	writeJSON(w, struct{}{})
	s.isDown.Do(func() { close(s.down) })
}

func (s *Server) version(w http.ResponseWriter, _ *http.Request) { writeJSON(w, s.Version) }

// readJSON reads one value and nothing after it; a key that is not known is an error, as in the file.
func readJSON(w http.ResponseWriter, r *http.Request, limit int64, v any) error {
	dec := json.NewDecoder(http.MaxBytesReader(w, r.Body, limit))
	dec.DisallowUnknownFields()
	err := dec.Decode(v)
	if err == nil {
		if _, err = dec.Token(); errors.Is(err, io.EOF) {
			return nil
		} else if err == nil {
			err = errors.New("there is more than one value")
		}
	}
	if tooLarge := new(http.MaxBytesError); errors.As(err, &tooLarge) {
		return err
	}
	return refuse(http.StatusBadRequest, CodeInvalid, "the body is not what this request takes: "+err.Error(), "")
}

func writeJSON(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v) // the client is gone when this fails
}

// writeList streams {"key":[…]} one element a line, so that 60,000 of them never lie in memory as one text.
func writeList(w http.ResponseWriter, key string, n int, at func(int) any) {
	w.Header().Set("Content-Type", "application/json")
	out := bufio.NewWriterSize(w, 32<<10)
	defer out.Flush()
	fmt.Fprintf(out, "{%q:[", key)
	enc := json.NewEncoder(out)
	for i := range n {
		if i > 0 {
			out.WriteByte(',')
		}
		if enc.Encode(at(i)) != nil {
			return // the client is gone
		}
	}
	out.WriteString("]}\n")
}
