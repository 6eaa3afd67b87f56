package broker

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/credbroker/cred/scopes"
)

// A placer finds the environment of every act. It holds no key: a look-up at
// the provider is a call of the broker's own, which ask logs and sends.
type placer struct {
	catalog *scopes.Catalog
	now     func() time.Time
	ask     func(ctx context.Context, who behalf, s *Settings, call scopes.Call) ([]byte, error)

	mu    sync.Mutex
	cache map[string]located
}

// behalf says for which call of which lease a look-up is made.
type behalf struct{ call, lease, subject string }

// located is what a look-up answered, and when.
type located struct {
	at   time.Time
	keys [][]scopes.Key
}

const (
	// cacheFor is how long the answer of a look-up serves for reads and writes.
	// Deletes, grants and reveals always ask anew.
	cacheFor = 15 * time.Second
	maxCache = 4096
	// lookupTimeout bounds one look-up with all its pages.
	lookupTimeout = 20 * time.Second
	// maxLookups bounds what one call can make the broker ask.
	maxLookups = 32
)

// acts gives the acts of a call with their environments. One id that lives in
// two environments is two acts. What cannot be placed is refused.
func (p *placer) acts(ctx context.Context, who behalf, s *Settings, acts []scopes.Act) ([]scopes.Act, error) {
	var placed []scopes.Act
	fresh := map[string][][]scopes.Key{} // look-ups of this call, so that ten acts on one id ask once
	for _, a := range acts {
		var keys [][]scopes.Key
		if a.Place.Reach == scopes.ByLookup {
			var err error
			if keys, err = p.lookup(ctx, who, s, a, fresh); err != nil {
				return acts, err
			}
		}
		in, err := a.Locate(s.Environments, keys)
		if err != nil {
			return acts, err
		}
		placed = append(placed, in...)
	}
	return placed, nil
}

func (p *placer) lookup(ctx context.Context, who behalf, s *Settings, a scopes.Act, fresh map[string][][]scopes.Key) ([][]scopes.Key, error) {
	// The settings are part of the key: they say which places are asked.
	key := fmt.Sprintf("%s %s %q %q %q", s.digest, a.Provider, a.Place.Lookup, a.Place.ID, a.Place.By)
	if keys, ok := fresh[key]; ok {
		return keys, nil
	}
	if a.Action == scopes.Read || a.Action == scopes.Write {
		if keys := p.cached(key); keys != nil {
			return keys, nil
		}
	}
	if len(fresh) == maxLookups {
		return nil, fmt.Errorf("%w: the call names more than %d things that would have to be looked up", scopes.ErrUnplaced, maxLookups)
	}
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	keys, err := p.askProvider(ctx, who, s, a)
	if err != nil {
		return nil, err
	}
	fresh[key] = keys
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.cache) >= maxCache {
		clear(p.cache)
	}
	p.cache[key] = located{p.now(), keys}
	return keys, nil
}

func (p *placer) cached(key string) [][]scopes.Key {
	p.mu.Lock()
	defer p.mu.Unlock()
	if l, ok := p.cache[key]; ok && p.now().Sub(l.at) < cacheFor {
		return l.keys
	}
	return nil
}

func (p *placer) askProvider(ctx context.Context, who behalf, s *Settings, a scopes.Act) ([][]scopes.Key, error) {
	if p.ask == nil {
		return nil, fmt.Errorf("%w: %s %s needs a look-up at %s, and no broker is running", scopes.ErrUnplaced, a.Operation, a.ID, a.Provider)
	}
	l, err := p.catalog.NewLookup(a.Provider, a.Place, s.Environments)
	if err != nil {
		return nil, err
	}
	for _, call := range l.Calls() {
		for page := 0; ; page++ {
			if page == l.MaxPages() {
				return nil, fmt.Errorf("%w: the provider's answer has more than %d pages", scopes.ErrUnplaced, page)
			}
			answer, err := p.ask(ctx, who, s, call)
			if err != nil {
				r := refuseWith(err)
				return nil, &Refusal{Code: r.Code, Detail: fmt.Sprintf("looking up where %s is: %s", a.Place.ID, r.Detail), Err: r.Err}
			}
			next, err := l.Read(call, answer)
			if err != nil {
				return nil, err
			}
			if next == nil {
				break
			}
			call = *next
		}
	}
	return l.Keys()
}
