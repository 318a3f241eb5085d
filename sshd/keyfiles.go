package sshd

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"runtime"
	"sync"
	"time"
)

// KeyFiles are authorized_keys files and files of user CAs, which are read again when they have changed. Their method Keys is
// what Options.Authorize asks for.
type KeyFiles struct {
	log        *slog.Logger
	authorized []string
	cas        []string

	mu     sync.Mutex
	stamps []stamp
	keys   *Keys
}

// A stamp tells one state of a file from another.
type stamp struct {
	modified time.Time
	size     int64
	file     os.FileInfo // to see that another took its name
	missing  string
}

func (s stamp) same(t stamp) bool {
	if s.missing != t.missing || s.missing != "" {
		return s.missing == t.missing
	}
	return s.modified.Equal(t.modified) && s.size == t.size && os.SameFile(s.file, t.file)
}

// NewKeyFiles reads nothing yet.
func NewKeyFiles(log *slog.Logger, authorized, cas []string) *KeyFiles {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &KeyFiles{log: log, authorized: authorized, cas: cas}
}

// Keys is what the files say now. A file that cannot be read counts as empty, and a line that cannot be understood as not
// there: both are logged, once for each state of the files.
func (f *KeyFiles) Keys() (*Keys, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	stamps := make([]stamp, 0, len(f.authorized)+len(f.cas))
	for _, list := range [][]string{f.authorized, f.cas} {
		for _, name := range list {
			stamps = append(stamps, stampOf(name))
		}
	}
	same := f.keys != nil
	for i := range stamps {
		same = same && stamps[i].same(f.stamps[i])
	}
	if same {
		return f.keys, nil
	}
	bad := func(where string, err error) { f.log.Warn("a key is refused", "at", where, "error", err) }
	var lines []*keyLine
	for i, list := range [][]string{f.authorized, f.cas} {
		for _, name := range list {
			text, err := readKeyFile(name)
			if err != nil {
				f.log.Error("keys cannot be read; those in this file may not log in", "file", name, "error", err)
				continue
			}
			lines = append(lines, parseKeys(name, text, i == 1, bad)...)
		}
	}
	// The stamps are from before the reading: a file that changed in between is read again.
	f.keys, f.stamps = newKeys(lines), stamps
	f.log.Info("keys read", "keys", f.keys.Len())
	return f.keys, nil
}

func stampOf(name string) stamp {
	info, err := os.Stat(name)
	if err != nil {
		return stamp{missing: err.Error()}
	}
	return stamp{modified: info.ModTime(), size: info.Size(), file: info}
}

// readKeyFile reads a file that nobody but its owner may write (StrictModes in sshd_config(5)).
func readKeyFile(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, pathless(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, errors.New("it is no regular file")
	}
	if runtime.GOOS != "windows" && info.Mode().Perm()&0o022 != 0 {
		return nil, fmt.Errorf("others may write it (%v); run chmod go-w", info.Mode().Perm())
	}
	return readAll(f, 16<<20)
}

func readAll(r io.Reader, limit int64) ([]byte, error) {
	text, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err == nil && int64(len(text)) > limit {
		err = fmt.Errorf("it is larger than %d bytes", limit)
	}
	return text, err
}
