package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
	"time"

	sdnotify "github.com/coreos/go-systemd/v22/daemon"

	"github.com/fairlead-net/fairlead/api"
)

// What a service manager is told (sd_notify(3)).
const (
	ready    = sdnotify.SdNotifyReady
	stopping = sdnotify.SdNotifyStopping
	alive    = sdnotify.SdNotifyWatchdog
)

// reloading is what a service manager is told before the next ready.
func reloading() string { return sdnotify.SdNotifyReloading + "\n" + sdnotify.SdNotifyMonotonicUsec() }

// tell tells the service manager, if there is one.
func (d *daemon) tell(state string) {
	if _, err := sdnotify.SdNotify(false, state); err != nil {
		d.log.Warn("the service manager cannot be told", "state", state, "err", err)
	}
}

// notify feeds the watchdog of the service manager, if it has one, until ctx ends. Each time it asks the table for its
// state first: a daemon that hangs there is not alive.
func (d *daemon) notify(ctx context.Context) error {
	defer func() {
		if d.next.Load() == nil { // else another program goes on in this process
			d.tell(stopping)
		}
	}()
	every, err := sdnotify.SdWatchdogEnabled(false)
	if err != nil || every == 0 {
		<-ctx.Done()
		return nil
	}
	tick := time.NewTicker(every / 2)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			d.table.Len()
			d.tell(alive)
		}
	}
}

// reloads says when the daemon is ready, and then applies the file anew at every SIGHUP. A file that cannot be applied
// changes nothing.
func (d *daemon) reloads(ctx context.Context) error {
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	defer signal.Stop(hup)
	select {
	case <-d.table.Ready():
	case <-ctx.Done():
		return nil
	}
	d.settings.opened(ctx)
	cleanStale(d.log)
	d.log.Info("ready", "file", d.server.Version.File, "forwards", d.table.Len())
	d.tell(ready)
	d.started()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-hup:
			d.tell(reloading())
			if err := d.reload(ctx); err != nil {
				d.log.Error("reload failed; everything stays as it was", "err", err)
			}
			d.tell(ready)
		}
	}
}

func (d *daemon) reload(ctx context.Context) error {
	file := d.server.Version.File
	if file == "" && d.flags.given != nil {
		d.log.Info("reload: there is no file, the command line says everything")
		return nil
	}
	if file == "" {
		if file = systemFile; !exists(file) {
			d.log.Info("reload: there is no file", "missing", systemFile)
			return nil
		}
	}
	text, err := readFile(file)
	if err != nil {
		return err
	}
	_, err = d.server.Apply(ctx, api.ApplyRequest{File: file, Text: text})
	return err
}
