package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/fairlead-net/fairlead/tunnel"
	"github.com/fairlead-net/fairlead/tunnel/link"
)

// The files of hubs and agents in the state directory. Their names begin as those of all that is the daemon's there (giveState).
const (
	hubKeyFile   = "fairlead.hub-key"
	agentKeyFile = "fairlead.agent-key"
	agentFile    = "fairlead.agent" // a membership
	agentLock    = "fairlead.agent-lock"
)

// A membership is whose agent this host is, as `fairlead join` has found out.
type membership struct {
	Hub  string `json:"hub"`  // host:port
	Key  string `json:"key"`  // the hub's public one, which is believed and no other
	Name string `json:"name"` // of this agent
}

// errNoMember is that this host is nobody's agent.
var errNoMember = advise(errors.New("this host is no agent of a hub"), "`fairlead agents token` on the hub prints the command that makes it one: `fairlead join HOST:PORT TOKEN`")

// readMembership reads whose agent this host is. The error is errNoMember where it is nobody's.
func readMembership(state string) (m membership, key tunnel.Key, err error) {
	text, err := os.ReadFile(filepath.Join(state, agentFile))
	if errors.Is(err, fs.ErrNotExist) {
		return m, key, errNoMember
	}
	if err == nil {
		err = json.Unmarshal(text, &m)
	}
	if err == nil {
		key, err = tunnel.ParseKey(m.Key)
	}
	if err != nil {
		return m, key, fmt.Errorf("%s: %w", filepath.Join(state, agentFile), err)
	}
	return m, key, nil
}

// writeMembership writes it down: the whole of it or nothing.
func writeMembership(state string, m membership) error {
	text, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return err
	}
	tmp, err := os.CreateTemp(state, agentFile+".*") // 0600
	if err != nil {
		return err
	}
	_, err = tmp.Write(append(text, '\n'))
	if err == nil {
		err = tmp.Sync()
	}
	if err = errors.Join(err, tmp.Close()); err == nil {
		err = os.Rename(tmp.Name(), filepath.Join(state, agentFile))
	}
	if err != nil {
		return errors.Join(err, os.Remove(tmp.Name()))
	}
	return syncDir(state)
}

// loadAgent is this host's key as an agent, made if there is none.
func loadAgent(state string) (*link.Identity, error) {
	return link.LoadIdentity(filepath.Join(state, agentKeyFile))
}

// shareState gives files of the state directory to its owner: root may have made them for the daemon, which is another user.
func shareState(state string) error {
	info, err := os.Stat(state)
	if err != nil {
		return err
	}
	for _, name := range []string{agentKeyFile, agentFile, agentLock} {
		f, err := os.OpenFile(filepath.Join(state, name), os.O_RDWR, 0)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err == nil {
			err = errors.Join(keepOwner(f, info), f.Close())
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// errAgentRuns is that another process is this host's agent.
var errAgentRuns = errors.New("another process is the agent of this host")

// holdAgent makes this process the one that is this host's agent, until release is called: two would take each other's place at the
// hub. The error is errAgentRuns where another one is.
func holdAgent(state string) (release func() error, err error) {
	f, err := os.OpenFile(filepath.Join(state, agentLock), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := lockFile(f); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f.Close, nil
}
