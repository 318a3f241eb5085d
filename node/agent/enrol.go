package agent

import (
	"context"
	"crypto/rand"
	"sync"

	"github.com/fairlead-net/fairlead/tunnel"
)

// Enrol has the hub enrol this agent by the secret of a token, over a link, and returns what the agent is called there.
func Enrol(ctx context.Context, link tunnel.Link, secret, name, program string) (Told, error) {
	ctx, cancel := context.WithCancel(ctx)
	told := make(chan Told, 1)
	far := New(Options{Name: HubName, Told: func(t Told) {
		select {
		case told <- t:
		default:
		}
	}})
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	running.Go(func() { _ = far.Run(ctx) })
	var id tunnel.ID
	_, _ = rand.Read(id[:]) // never fails
	s := far.Begin(tunnel.Options{Side: tunnel.Agent, ID: id})
	defer s.End(tunnel.Gone, "enrolled") // Shutdown would be that it comes back
	if _, err := s.Attach(ctx, link, tunnel.Hello{Session: id, Join: true, Name: name, Program: program, Secret: secret}); err != nil {
		_ = link.Close()
		return Told{}, err
	}
	select {
	case t := <-told:
		return t, nil
	case <-ctx.Done():
		return Told{}, ctx.Err()
	}
}
