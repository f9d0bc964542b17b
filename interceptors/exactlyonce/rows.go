package exactlyonce

import (
	"context"
	"fmt"
	"sync"
	"time"

	"example.com/rolecall/interceptors/internal/feature"
)

const (
	// recount is how often the rows of who has as many as it may are counted again: other replicas prune too.
	recount = time.Minute
	// userShare is which part of a peer's rows may be on behalf of one user, so that one does not use up the room of all
	// others behind the same workload: a tenth.
	userShare = 10
	// maxCounted bounds the users who are counted. When there are more, all are counted anew.
	maxCounted = 100_000
)

// rows counts the rows of each peer, as far as this replica knows, so that none can fill the database. Of users it does so once
// their peer has as many as one of them may have. Safe for concurrent use.
type rows struct {
	max   int
	mu    sync.Mutex
	peers map[string]*count
	users map[Key]*count // by Peer and User alone
}

type count struct {
	rows int
	at   time.Time // when it was read from the database
}

func newRows(most int) *rows {
	return &rows{max: most, peers: make(map[string]*count), users: make(map[Key]*count)}
}

// room returns a refusal if the caller has as many rows as it may, or times as many.
func (r *rows) room(ctx context.Context, t *transaction, key Key, times int) error {
	n, err := r.ofPeer(ctx, t, key.Peer, times*r.max)
	if err != nil {
		return err
	}
	if n >= times*r.max {
		return refuse(feature.TooMany, "as many requests of the peer are remembered as may be")
	}
	share := max(1, times*r.max/userShare)
	if key.User == "" || n < share {
		return nil
	}
	if n, err = r.ofUser(ctx, t, Key{Peer: key.Peer, User: key.User}, share); err != nil {
		return err
	}
	if n >= share {
		return refuse(feature.TooMany, "as many requests on behalf of the user are remembered as may be")
	}
	return nil
}

// maxRunning bounds the sagas of one method that run on behalf of one user behind one peer, those included that wait for their next
// attempt: they hold their requests, and each takes the place of another user's when it is taken over.
const maxRunning = 100

// roomToRun returns a refusal if as many sagas run for the user of a request as may.
func (t *transaction) roomToRun(ctx context.Context, key Key) error {
	if key.User == "" {
		return nil
	}
	var n int
	err := t.tx.QueryRowContext(ctx, "SELECT COUNT(*) FROM (SELECT 1 FROM rolecall_requests "+
		"WHERE state = 'RUNNING' AND peer = $1 AND on_behalf_of = $2 AND method = $3 LIMIT $4) AS theirs", key.Peer, key.User, key.Method, maxRunning).Scan(&n)
	if err != nil {
		return fmt.Errorf("count the sagas of the user: %w", err)
	}
	if n >= maxRunning {
		return refuse(feature.TooMany, "as many requests on behalf of the user run as may")
	}
	return nil
}

func (r *rows) ofPeer(ctx context.Context, t *transaction, peer string, most int) (int, error) {
	return counted(ctx, t, r, r.peers, peer, most, "SELECT COUNT(*) FROM (SELECT 1 FROM rolecall_requests WHERE peer = $1 LIMIT $2) AS theirs", peer, 2*r.max)
}

func (r *rows) ofUser(ctx context.Context, t *transaction, user Key, most int) (int, error) {
	r.mu.Lock()
	if len(r.users) >= maxCounted {
		clear(r.users)
	}
	r.mu.Unlock()
	return counted(ctx, t, r, r.users, user, most,
		"SELECT COUNT(*) FROM (SELECT 1 FROM rolecall_requests WHERE peer = $1 AND on_behalf_of = $2 LIMIT $3) AS theirs", user.Peer, user.User, 2*r.max)
}

// counted returns a count: the known one if it is below most or was read lately, else that of the database.
func counted[K comparable](ctx context.Context, t *transaction, r *rows, known map[K]*count, key K, most int, query string, args ...any) (n int, err error) {
	r.mu.Lock()
	if c := known[key]; c != nil && (c.rows < most || time.Since(c.at) < recount) {
		defer r.mu.Unlock()
		return c.rows, nil
	}
	r.mu.Unlock()
	if err := t.tx.QueryRowContext(ctx, query, args...).Scan(&n); err != nil {
		return 0, fmt.Errorf("count the requests of the caller: %w", err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	known[key] = &count{rows: n, at: time.Now()}
	return n, nil
}

// add counts rows of a caller that were stored, or deleted if n is below zero.
func (r *rows) add(key Key, n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	change(r.peers, key.Peer, n)
	change(r.users, Key{Peer: key.Peer, User: key.User}, n)
}

func change[K comparable](known map[K]*count, key K, n int) {
	c := known[key]
	if c == nil {
		return
	}
	if c.rows += n; c.rows <= 0 {
		delete(known, key)
	}
}
