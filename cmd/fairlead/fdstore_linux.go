package main

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/coreos/go-systemd/v22/activation"
	sdnotify "github.com/coreos/go-systemd/v22/daemon"
	"golang.org/x/sys/unix"
)

// What the relay, the hub and the agent leave when the daemon ends goes to the service manager's descriptor store (FileDescriptorStoreMax= in
// systemd.service(5)), as one parcel: the manifest, and then every descriptor that it speaks of. The manager gives it to the
// next process, or drops it when there will be none, which closes everything.

const (
	// storedName is what the parcel is called there.
	storedName = "fairlead-handover"
	// storeParcel has the manager keep it (sd_notify(3)). Without FDPOLL=0 it would drop it at once: it looks hung up.
	storeParcel  = "FDSTORE=1\nFDNAME=" + storedName + "\nFDPOLL=0"
	removeParcel = "FDSTOREREMOVE=1\nFDNAME=" + storedName
	// barrier comes with the end of a pipe that the manager closes when it has seen to everything before.
	barrier = "BARRIER=1"
	// storeTime is how long the manager may take for that.
	storeTime = 5 * time.Second
)

// canDeposit reports whether there is a service manager, which may have a store. One that has none closes what it is given.
func canDeposit() bool { return os.Getenv("NOTIFY_SOCKET") != "" }

// deposit leaves with the service manager, if there is one, what the relay has left. Where that fails everything is closed with
// the process.
func deposit(left *legacy, log *slog.Logger) {
	if left == nil || len(left.descriptors()) == 0 || !canDeposit() {
		return
	}
	parcel, err := wrap(left)
	if err != nil {
		log.Error("the sessions cannot be left to the next process and end; clients that connect meanwhile wait for it", "err", err)
		parcel, err = wrap(left.listeners())
	}
	if err == nil {
		defer unix.Close(parcel)
		err = errors.Join(notifyWith(storeParcel, parcel), awaitManager())
	}
	if err != nil {
		log.Error("nothing may be left to the next process", "err", err)
		return
	}
	log.Info("given to the service manager for the next process", left.counted()...)
}

// wrap makes a parcel of what is left.
func wrap(left *legacy) (parcel int, err error) {
	manifest, err := writeManifest(left)
	if err != nil {
		return -1, err
	}
	defer manifest.Close()
	return pack(append([]int{int(manifest.Fd())}, left.descriptors()...))
}

// withdraw takes what an earlier process has left with the service manager, nil if that is nothing or nothing of use. Other
// descriptors that came from there (sd_listen_fds(3)) are closed.
func withdraw(log *slog.Logger) *legacy {
	var left *legacy
	for _, f := range activation.Files(true) {
		if f.Name() != storedName {
			log.Warn("a descriptor from the service manager is not for this program and is closed", "name", f.Name())
			_ = f.Close()
			continue
		}
		h, err := unwrap(int(f.Fd()))
		_ = f.Close()
		if err != nil {
			log.Error("what the process before left is not taken over; its sessions end", "err", err)
		} else {
			if left != nil {
				closeAll(left.descriptors())
			}
			left = h
			log.Info("taken over", h.counted()...)
		}
		if _, err := sdnotify.SdNotify(false, removeParcel); err != nil {
			log.Warn("the service manager cannot be told", "state", removeParcel, "err", err)
		}
	}
	return left
}

// unwrap is what wrap was given, with the numbers that the descriptors have here. After an error all are closed.
func unwrap(parcel int) (*legacy, error) {
	fds, err := unpack(parcel)
	if err != nil {
		return nil, err
	}
	if len(fds) == 0 {
		return nil, errors.New("it was taken by a process that has ended since")
	}
	manifest := os.NewFile(uintptr(fds[0]), "handover")
	defer manifest.Close()
	left, err := readManifest(manifest)
	if err == nil {
		err = left.renumber(fds[1:])
	}
	if err != nil {
		closeAll(fds[1:])
		return nil, err
	}
	return left, nil
}

// awaitManager returns when the service manager has seen to all it was told.
func awaitManager() error {
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer r.Close()
	err = notifyWith(barrier, int(w.Fd()))
	_ = w.Close()
	if err != nil {
		return err
	}
	if err := r.SetReadDeadline(time.Now().Add(storeTime)); err != nil {
		return err
	}
	if _, err := r.Read(make([]byte, 1)); errors.Is(err, os.ErrDeadlineExceeded) {
		return fmt.Errorf("the service manager has said nothing for %v", storeTime)
	}
	return nil
}

// notifyWith tells the service manager, as tell does, and gives it descriptors. (A net.UnixConn that is connected for datagrams
// sends none.)
func notifyWith(state string, fds ...int) error {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	limit := unix.NsecToTimeval(storeTime.Nanoseconds())
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &limit); err != nil {
		return err
	}
	to := &unix.SockaddrUnix{Name: os.Getenv("NOTIFY_SOCKET")}
	if err := unix.Sendmsg(fd, []byte(state), unix.UnixRights(fds...), to, unix.MSG_NOSIGNAL); err != nil {
		return fmt.Errorf("telling the service manager: %w", err)
	}
	return nil
}
