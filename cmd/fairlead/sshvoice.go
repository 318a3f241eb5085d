package main

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
)

// An sshVoice says things beside a session: on a terminal that is raw, lines have to be ended in another way. How much is
// said is LogLevel's.
type sshVoice struct {
	level slog.Level

	// chatty is whether the rooms may warn. While a command is on its way the program says itself what goes wrong, in one
	// line; what lives long says more.
	chatty atomic.Bool

	mu  sync.Mutex
	to  io.Writer
	raw bool
}

// newSSHVoice speaks as a LogLevel of ssh_config(5) says.
func newSSHVoice(to io.Writer, logLevel string) *sshVoice {
	levels := map[string]slog.Level{
		"QUIET": slog.LevelError + 4, "FATAL": slog.LevelError, "ERROR": slog.LevelError, "INFO": slog.LevelWarn, "VERBOSE": slog.LevelInfo,
	}
	level, ok := levels[logLevel]
	if !ok {
		level = slog.LevelDebug
	}
	return &sshVoice{to: to, level: level}
}

// logger is for the rooms.
func (v *sshVoice) logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(v, &slog.HandlerOptions{Level: v, ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
		if len(groups) == 0 && a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}}))
}

// Level is what the rooms may say.
func (v *sshVoice) Level() slog.Level {
	if v.level == slog.LevelWarn && !v.chatty.Load() {
		return slog.LevelError
	}
	return v.level
}

func (v *sshVoice) setRaw(raw bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.raw = raw
}

// Write writes lines.
func (v *sshVoice) Write(p []byte) (int, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	out := p
	if v.raw {
		out = bytes.ReplaceAll(p, []byte("\n"), []byte("\r\n"))
	}
	_, err := v.to.Write(out)
	return len(p), err
}

func (v *sshVoice) say(format string, args ...any) { fmt.Fprintf(v, format+"\n", args...) }

// warn is for what went wrong, info for what is good to know; both are said unless -q or LogLevel forbid it.
func (v *sshVoice) warn(format string, args ...any) {
	if v.level <= slog.LevelWarn {
		v.say(format, args...)
	}
}

func (v *sshVoice) info(format string, args ...any) { v.warn(format, args...) }

func (v *sshVoice) debug(format string, args ...any) {
	if v.level <= slog.LevelDebug {
		v.say(format, args...)
	}
}

// voiceFor is where a command speaks: standard error, or the file of -E.
func voiceFor(a *sshArgs, stderr io.Writer) (io.Writer, func(), error) {
	if a.logFile == "" {
		return stderr, func() {}, nil
	}
	file, err := os.OpenFile(a.logFile, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, nil, fmt.Errorf("-E: %w", err)
	}
	return file, func() { _ = file.Close() }, nil
}
