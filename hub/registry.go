package hub

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/fairlead-net/fairlead/store"
	"github.com/fairlead-net/fairlead/tunnel"
)

// The buckets of the registry: records under the agents' keys, tokens under their ids.
const (
	bucketAgents = "hub/agents"
	bucketTokens = "hub/tokens"
)

const (
	tokenLife  = time.Hour
	maxTokens  = 1000 // that wait to be used
	maxRevoked = 1000 // records that are kept only to say so
)

// What a Registry answers.
var (
	ErrNoAgent   = errors.New("there is no such agent")
	ErrNoToken   = errors.New("there is no such join token; it was used, or has expired")
	ErrNameTaken = errors.New("another agent has the name of this join token by now; have the hub print a new one")
	ErrFull      = errors.New("the hub has as many agents as it may have; `fairlead agents revoke` makes room there, or max_agents below [hub]")
	ErrSecret    = errors.New("the join token is wrong, was used already, or has expired; have the hub print a new one")
)

// A Registry is who is enrolled, and which tokens are out. What it says is what the store has. Nobody who asks waits for the disk.
type Registry struct {
	store store.Store

	writing sync.Mutex // held by the one who changes something, before mu, while the store writes it

	mu     sync.Mutex             // held for moments; who changes what it guards holds writing, too, but for reserved and Seen
	agents map[tunnel.Key]*Record // never changed, but replaced
	names  map[string]tunnel.Key  // of those that are not revoked
	tokens map[string]*TokenInfo
	unsaid map[tunnel.Key]bool // whose LastSeen is newer than the store's

	reserved map[tunnel.Key][]claim // that are no claims yet
}

// OpenRegistry reads what the store has.
func OpenRegistry(s store.Store) (*Registry, error) {
	r := &Registry{
		store: s, agents: map[tunnel.Key]*Record{}, names: map[string]tunnel.Key{}, tokens: map[string]*TokenInfo{}, unsaid: map[tunnel.Key]bool{},
		reserved: map[tunnel.Key][]claim{},
	}
	err := s.Each(bucketAgents, func(key string, value []byte) error {
		rec, err := decodeRecord(key, value)
		if err == nil {
			r.keepLocked(rec)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return r, s.Each(bucketTokens, func(id string, value []byte) error {
		info, err := decodeToken(id, value)
		if err == nil {
			r.tokens[id] = info
		}
		return err
	})
}

// keepLocked makes rec what is known of its agent.
func (r *Registry) keepLocked(rec *Record) {
	if old := r.agents[rec.Key]; old != nil && r.names[old.Name] == rec.Key {
		delete(r.names, old.Name)
	}
	r.agents[rec.Key] = rec
	if rec.Revoked.IsZero() {
		r.names[rec.Name] = rec.Key
	}
}

// Agent is what is known under a key.
func (r *Registry) Agent(key tunnel.Key) (Record, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if rec := r.agents[key]; rec != nil {
		return *rec, true
	}
	return Record{}, false
}

// Named is the agent of that name. One that was revoked has none.
func (r *Registry) Named(name string) (Record, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if key, ok := r.names[name]; ok {
		return *r.agents[key], true
	}
	return Record{}, false
}

// Agents are all that are or were enrolled, by name.
func (r *Registry) Agents() []Record {
	r.mu.Lock()
	defer r.mu.Unlock()
	list := make([]Record, 0, len(r.agents))
	for _, rec := range r.agents {
		list = append(list, *rec)
	}
	slices.SortFunc(list, func(a, b Record) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), slices.Compare(a.Key[:], b.Key[:]))
	})
	return list
}

// Tokens are those that can be used now, the oldest first.
func (r *Registry) Tokens(now time.Time) []TokenInfo {
	r.mu.Lock()
	defer r.mu.Unlock()
	var list []TokenInfo
	for _, info := range r.tokens {
		if now.Before(info.Expires) {
			list = append(list, *info)
		}
	}
	slices.SortFunc(list, func(a, b TokenInfo) int { return cmp.Or(a.Made.Compare(b.Made), cmp.Compare(a.ID, b.ID)) })
	return list
}

// TokenOptions are what a new token is for.
type TokenOptions struct {
	Name   string        // of the agent; "": it says how it wants to be called
	Limits Limits        // of the agent
	Life   time.Duration // how long it can be used; 0 is an hour
}

// NewToken makes a token. It is the only time that it is seen: only a hash of it is kept.
func (r *Registry) NewToken(hub tunnel.Key, o TokenOptions, now time.Time) (Token, error) {
	if o.Name != "" {
		if err := CheckName(o.Name); err != nil {
			return Token{}, err
		}
	}
	if err := o.Limits.Check(); err != nil {
		return Token{}, err
	}
	t := newToken(hub)
	h := t.hash()
	info := &TokenInfo{ID: t.id(), Name: o.Name, Limits: o.Limits, Made: now, Expires: now.Add(cmp.Or(o.Life, tokenLife)), hash: h[:]}
	value, err := info.encode()
	if err != nil {
		return Token{}, err
	}
	r.writing.Lock()
	defer r.writing.Unlock()
	r.mu.Lock()
	var old []string
	for id, info := range r.tokens {
		if !now.Before(info.Expires) {
			old = append(old, id)
		}
	}
	full := len(r.tokens)-len(old) >= maxTokens
	r.mu.Unlock()
	if full {
		return Token{}, fmt.Errorf("there are %d join tokens that nobody has used, which is the most; delete some", maxTokens)
	}
	err = r.store.Update(func(tx store.Tx) error {
		for _, id := range old {
			if err := tx.Delete(bucketTokens, id); err != nil {
				return err
			}
		}
		return tx.Put(bucketTokens, info.ID, value)
	})
	if err != nil {
		return Token{}, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, id := range old {
		delete(r.tokens, id)
	}
	r.tokens[info.ID] = info
	return t, nil
}

// DeleteToken makes a token that is out worth nothing.
func (r *Registry) DeleteToken(id string) error {
	r.writing.Lock()
	defer r.writing.Unlock()
	if r.token(id) == nil {
		return fmt.Errorf("%s: %w", id, ErrNoToken)
	}
	if err := r.store.Update(func(tx store.Tx) error { return tx.Delete(bucketTokens, id) }); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.tokens, id)
	return nil
}

func (r *Registry) token(id string) *TokenInfo {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.tokens[id]
}

// Enrol makes the owner of a key an agent, by a secret that is good for that once. Again with the same key and secret it is the
// agent that it was: the first answer may have been lost.
//
// Who makes the token says who the agent is. Where the token has no name the agent's wish counts, unless meant says that the name stands
// for somebody already, in settings or in a forward: then a number goes behind it, as where another agent has it. Of new agents there are no
// more than most, if that is not 0.
func (r *Registry) Enrol(key tunnel.Key, secret, name, program string, meant func(name string) bool, most int, now time.Time) (Record, error) {
	t, ok := parseSecret(secret)
	if !ok {
		return Record{}, ErrSecret
	}
	if info := r.token(t.id()); info == nil || !t.is(info.hash) { // who guesses keeps nobody waiting
		before, ok := r.Agent(key)
		if ok && before.Revoked.IsZero() && t.is(before.token) {
			return before, nil
		}
		return Record{}, ErrSecret
	}
	r.writing.Lock()
	defer r.writing.Unlock()
	info := r.token(t.id())
	if info == nil || !now.Before(info.Expires) {
		return Record{}, ErrSecret
	}
	before, enrolled := r.Agent(key)
	enrolled = enrolled && before.Revoked.IsZero()
	if most > 0 && !enrolled && r.count() >= most {
		return Record{}, ErrFull
	}
	called := info.Name
	if called == "" {
		called = r.freeName(cmp.Or(agentName(name), "agent"), key, meant)
	} else if owner, taken := r.Named(called); taken && owner.Key != key {
		return Record{}, fmt.Errorf("%w: %q", ErrNameTaken, called)
	}
	rec := &Record{
		Key: key, Name: called, Enrolled: now, LastSeen: now, Program: program,
		Limits: info.Limits, token: info.hash,
	}
	if enrolled {
		rec.claims = before.claims
		if info.Name == "" {
			rec.Name = before.Name
		}
	}
	value, err := rec.encode()
	if err != nil {
		return Record{}, err
	}
	err = r.store.Update(func(tx store.Tx) error {
		return errors.Join(tx.Delete(bucketTokens, info.ID), tx.Put(bucketAgents, key.String(), value))
	})
	if err != nil {
		return Record{}, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.tokens, info.ID)
	r.keepLocked(rec)
	return *rec, nil
}

// count is how many agents are enrolled.
func (r *Registry) count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.names)
}

// freeName is name, or name with a number behind it where another agent has it or had it, or it is meant for somebody.
func (r *Registry) freeName(name string, key tunnel.Key, meant func(name string) bool) string {
	spoken := map[string]bool{}
	r.mu.Lock()
	for _, a := range r.agents {
		for _, n := range a.Limits.Reach {
			spoken[n] = true
		}
		if a.Key != key {
			spoken[a.Name] = true
		}
	}
	r.mu.Unlock()
	free := func(n string) bool { return !spoken[n] && !meant(n) && CheckName(n) == nil }
	if free(name) {
		return name
	}
	for i := 2; ; i++ {
		suffix := fmt.Sprintf("-%d", i)
		if n := name[:min(len(name), maxName-len(suffix))] + suffix; free(n) {
			return n
		}
	}
}

// update replaces the record of an agent by what change makes of a copy. Whoever else changes something waits meanwhile.
func (r *Registry) update(key tunnel.Key, change func(*Record) error) (Record, error) {
	r.writing.Lock()
	defer r.writing.Unlock()
	rec, ok := r.Agent(key)
	if !ok {
		return Record{}, ErrNoAgent
	}
	rec.claims = slices.Clone(rec.claims)
	if err := change(&rec); err != nil {
		return Record{}, err
	}
	value, err := rec.encode()
	if err == nil {
		err = r.store.Update(func(tx store.Tx) error { return tx.Put(bucketAgents, key.String(), value) })
	}
	if err != nil {
		return Record{}, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if now := r.agents[key]; now.LastSeen.After(rec.LastSeen) { // seen meanwhile, and that is not kept yet
		rec.LastSeen, rec.Program = now.LastSeen, now.Program
	} else {
		delete(r.unsaid, key)
	}
	r.keepLocked(&rec)
	return rec, nil
}

// Rename gives an agent another name, which has to be free.
func (r *Registry) Rename(key tunnel.Key, name string) (Record, error) {
	if err := CheckName(name); err != nil {
		return Record{}, err
	}
	return r.update(key, func(rec *Record) error {
		if owner, taken := r.Named(name); taken && owner.Key != key {
			return fmt.Errorf("there is an agent %q already", name)
		}
		if !rec.Revoked.IsZero() {
			return ErrNoAgent
		}
		rec.Name = name
		return nil
	})
}

// ChangeLimits replaces what the agent's token said by what change makes of it.
func (r *Registry) ChangeLimits(key tunnel.Key, change func(Limits) Limits) (Record, error) {
	return r.update(key, func(rec *Record) error {
		if !rec.Revoked.IsZero() {
			return ErrNoAgent
		}
		rec.Limits = change(rec.Limits)
		return rec.Limits.Check()
	})
}

// Revoke ends what an agent may, until it enrols by a new token. Its name and places are free at once.
func (r *Registry) Revoke(key tunnel.Key, now time.Time) error {
	_, err := r.update(key, func(rec *Record) error {
		rec.Revoked, rec.claims, rec.token = now, nil, nil
		return nil
	})
	if err != nil {
		return err
	}
	r.mu.Lock()
	delete(r.reserved, key)
	r.mu.Unlock()
	return r.forget()
}

// forget drops the oldest records of revoked agents when there are too many.
func (r *Registry) forget() error {
	r.writing.Lock()
	defer r.writing.Unlock()
	revoked := slices.DeleteFunc(r.Agents(), func(rec Record) bool { return rec.Revoked.IsZero() })
	if len(revoked) <= maxRevoked {
		return nil
	}
	slices.SortFunc(revoked, func(a, b Record) int { return a.Revoked.Compare(b.Revoked) })
	revoked = revoked[:len(revoked)-maxRevoked]
	err := r.store.Update(func(tx store.Tx) error {
		for _, rec := range revoked {
			if err := tx.Delete(bucketAgents, rec.Key.String()); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, rec := range revoked {
		delete(r.agents, rec.Key)
		delete(r.unsaid, rec.Key)
	}
	return nil
}

// Seen notes that an agent is there. It is kept by the next change or Flush.
func (r *Registry) Seen(key tunnel.Key, program string, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if old := r.agents[key]; old != nil {
		rec := *old
		rec.LastSeen, rec.Program = now, cmp.Or(program, old.Program)
		r.agents[key] = &rec
		r.unsaid[key] = true
	}
}

// Flush keeps what Seen noted.
func (r *Registry) Flush() error {
	r.writing.Lock()
	defer r.writing.Unlock()
	r.mu.Lock()
	said := r.unsaid
	r.unsaid = map[tunnel.Key]bool{}
	var records []*Record
	for key := range said {
		if rec := r.agents[key]; rec != nil {
			records = append(records, rec)
		}
	}
	r.mu.Unlock()
	if len(records) == 0 {
		return nil
	}
	err := r.store.Update(func(tx store.Tx) error {
		for _, rec := range records {
			value, err := rec.encode()
			if err == nil {
				err = tx.Put(bucketAgents, rec.Key.String(), value)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		r.mu.Lock()
		defer r.mu.Unlock()
		for _, rec := range records {
			r.unsaid[rec.Key] = true
		}
	}
	return err
}
