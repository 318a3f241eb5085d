package table

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/fairlead-net/fairlead/config"
	"github.com/fairlead-net/fairlead/forward"
	"github.com/fairlead-net/fairlead/store"
)

// The buckets of the store, and what is in them.
const (
	bucketForwards = "forwards" // by name: the config.Spec of a forward that was added to the running daemon, as JSON
	bucketCounters = "counters" // by name: see counters
	bucketApply    = "apply"    // while an apply waits to be confirmed, what of the file held before it

	keyPrevious = "previous" // the forwards: see encodeSet
	keySettings = "settings" // storedSettings as JSON; absent: none
)

// persists reports whether forwards of this origin outlive the daemon by the store.
func persists(origin forward.Origin) bool { return origin == forward.OriginAPI }

// keep writes to the store what ch means for the next start.
func (t *Table) keep(ch change) error {
	put := map[string][]byte{}
	for _, f := range ch.put {
		if !persists(f.Origin) || ch.stored {
			continue
		}
		spec, err := json.Marshal(config.SpecOf(f))
		if err != nil {
			return fmt.Errorf("forward %q cannot be stored: %w", f.Name, err)
		}
		put[f.Name] = spec
	}
	drop := map[string]bool{}
	for _, e := range ch.drop {
		if persists(e.f.Origin) {
			drop[e.f.Name] = true
		}
	}
	for _, k := range ch.unshelve {
		if persists(k.origin) {
			drop[k.name] = true
		}
	}
	if len(put)+len(drop) == 0 && ch.keep == nil {
		return nil
	}
	return t.store.Update(func(tx store.Tx) error {
		for name := range drop {
			if err := tx.Delete(bucketForwards, name); err != nil {
				return err
			}
		}
		for name, spec := range put {
			if err := tx.Put(bucketForwards, name, spec); err != nil {
				return err
			}
		}
		if ch.keep != nil {
			return ch.keep(tx)
		}
		return nil
	})
}

// load takes what was stored into the table. Whatever is wrong with one of them, it is set aside and stays in the store;
// what is in the table already, because the file has it, comes first. The caller holds writing.
func (t *Table) load() error {
	ch := change{stored: true, force: true, shelve: map[shelfKey]shelved{}}
	var past []string
	err := t.store.Each(bucketForwards, func(name string, data []byte) error {
		f, err := decodeSpec(name, forward.OriginAPI, data)
		switch e := t.byName[name]; {
		case err != nil:
			f = &forward.Forward{Name: name, Origin: forward.OriginAPI}
			ch.shelve[keyOf(f)] = shelved{
				f: f, err: fmt.Errorf("what is stored of it cannot be used: %w", err), since: time.Now(), broken: true,
			}
		case shutOf(f, time.Now()) == expired:
			past = append(past, name)
		case e == nil:
			ch.put = append(ch.put, f)
		case e.f.Origin != f.Origin:
			ch.setAside(f, &ConflictError{Name: name, Owner: e.f.Origin})
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("the stored forwards cannot be read: %w", err)
	}
	for _, name := range past {
		t.log.Info("forward expired", keyForward, name, keyOrigin, forward.OriginAPI)
		ch.unshelve = append(ch.unshelve, shelfKey{name, forward.OriginAPI})
	}
	_, err = t.commit(ch)
	return err
}

func decodeSpec(name string, origin forward.Origin, data []byte) (*forward.Forward, error) {
	var spec config.Spec
	if err := json.Unmarshal(data, &spec); err != nil {
		return nil, err
	}
	return spec.Forward(name, origin)
}

// encodeSet is forwards as bucketApply keeps them: an object of Specs by name.
func encodeSet(list []*forward.Forward) ([]byte, error) {
	specs := make(map[string]config.Spec, len(list))
	for _, f := range list {
		specs[f.Name] = config.SpecOf(f)
	}
	return json.Marshal(specs)
}

func decodeSet(data []byte, origin forward.Origin) ([]*forward.Forward, error) {
	var specs map[string]json.RawMessage
	if err := json.Unmarshal(data, &specs); err != nil {
		return nil, err
	}
	list := make([]*forward.Forward, 0, len(specs))
	for name, data := range specs {
		f, err := decodeSpec(name, origin, data)
		if err != nil {
			return nil, fmt.Errorf("forward %q: %w", name, err)
		}
		list = append(list, f)
	}
	return list, nil
}

// storedSettings are settings with the hashes of passwords, which do not show in theirs.
type storedSettings struct {
	config.Settings
	Hashes map[string]string // by name of the user
}

func encodeConfig(cfg *config.Config) (forwards, settings []byte, err error) {
	if forwards, err = encodeSet(cfg.Forwards); err == nil {
		stored := storedSettings{cfg.Settings, map[string]string{}}
		for _, u := range cfg.Settings.Users {
			stored.Hashes[u.Name] = u.Password.Reveal()
		}
		settings, err = json.Marshal(stored)
	}
	return forwards, settings, err
}

func decodeConfig(forwards, settings []byte) (*config.Config, error) {
	list, err := decodeSet(forwards, forward.OriginFile)
	cfg := &config.Config{Forwards: list}
	if err == nil && settings != nil {
		var stored storedSettings
		err = json.Unmarshal(settings, &stored)
		cfg.Settings = stored.Settings
		for i := range cfg.Settings.Users {
			u := &cfg.Settings.Users[i]
			u.Password = forward.PasswordHash(stored.Hashes[u.Name])
		}
	}
	return cfg, err
}
