package relay

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// soakVariable is for how long to soak, as time.ParseDuration has it.
const soakVariable = "FAIRLEAD_SOAK"

// soak runs 200 sessions at a time, one after the other, with payloads and pauses of any size, and compares hashes.
func soak(t *testing.T, g *rig) {
	length := time.Second
	if g.isMain() && !testing.Short() {
		length = 3 * time.Second
	}
	if s := os.Getenv(soakVariable); s != "" {
		var err error
		if length, err = time.ParseDuration(s); err != nil {
			t.Fatalf("%s: %v", soakVariable, err)
		}
	}
	end := time.Now().Add(length)
	var sessions, in, out atomic.Uint64
	var workers sync.WaitGroup
	for i := range uint64(200) {
		workers.Go(func() {
			random := rand.New(rand.NewPCG(i, 1))
			for time.Now().Before(end) {
				up, down := soakSize(random), soakSize(random)
				if err := soakOnce(g, random.Uint64(), up, down); err != nil {
					t.Error(err)
					return
				}
				sessions.Add(1)
				in.Add(uint64(up))
				out.Add(uint64(down))
			}
		})
	}
	workers.Wait()
	if t.Failed() {
		return
	}
	t.Logf("%d sessions, %d MB in, %d MB out", sessions.Load(), in.Load()>>20, out.Load()>>20)
	g.ends(t, sessions.Load())
	g.carried(t, in.Load(), out.Load())
}

// soakSize is mostly small; as many bytes are in the large ones.
func soakSize(random *rand.Rand) int { return random.IntN(1 << (1 + random.IntN(22))) }

// soakOnce carries a payload each way and compares what was sent with what came, by hash.
func soakOnce(g *rig, seed uint64, up, down int) error {
	client, target, err := g.pair()
	if err != nil {
		return err
	}
	defer client.Close()
	defer target.Close()
	var sent, got [2]hash.Hash
	for i := range sent {
		sent[i], got[i] = sha256.New(), sha256.New()
	}
	errs := make(chan error, 4)
	go func() { errs <- sendInPieces(client, sent[0], seed, up) }()
	go func() { errs <- sendInPieces(target, sent[1], seed+1, down) }()
	go func() { errs <- readInPieces(target, got[0], seed+2) }()
	go func() { errs <- readInPieces(client, got[1], seed+3) }()
	for range 4 {
		err = errors.Join(err, <-errs)
	}
	for i, size := range []int{up, down} {
		if err == nil && string(sent[i].Sum(nil)) != string(got[i].Sum(nil)) {
			err = fmt.Errorf("seed %d: the %d bytes %s arrived changed", seed, size, []string{"in", "out"}[i])
		}
	}
	return err
}

// sendInPieces sends n random bytes in pieces of random size, and sometimes pauses. It ends its direction.
func sendInPieces(c net.Conn, h io.Writer, seed uint64, n int) error {
	random, data := rand.New(rand.NewPCG(seed, 2)), payload(seed)
	for left := int64(n); left > 0; {
		m := min(left, int64(1+soakSize(random)))
		if _, err := io.CopyN(io.MultiWriter(c, h), data, m); err != nil {
			return fmt.Errorf("with %d of %d bytes to send: %w", left, n, err)
		}
		_ = c.SetDeadline(time.Now().Add(patience))
		left -= m
		soakPause(random)
	}
	return fin(c)
}

// readInPieces reads to the end of the stream, and sometimes pauses.
func readInPieces(c net.Conn, h io.Writer, seed uint64) error {
	random := rand.New(rand.NewPCG(seed, 3))
	for {
		_, err := io.CopyN(h, c, int64(1+soakSize(random)))
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return fmt.Errorf("reading: %w", err)
		}
		_ = c.SetDeadline(time.Now().Add(patience))
		soakPause(random)
	}
}

// soakPause lets the buffers before and behind run full and empty.
func soakPause(random *rand.Rand) {
	if random.IntN(4) == 0 {
		time.Sleep(time.Duration(random.IntN(5000)) * time.Microsecond)
	}
}
