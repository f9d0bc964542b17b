package exactlyonce_test

import (
	"testing"
	"time"

	"example.com/rolecall/interceptors/exactlyonce"
	"example.com/rolecall/interceptors/internal/nonces"
)

// A window of proofs in the same database prunes nonces too, at its own times.
func TestRequestsArePrunedBesideAWindowOfProofs(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, k *kit) {
		dialect := nonces.SQLite
		if postgres(k.url) {
			dialect = nonces.PostgreSQL
		}
		window := func() {
			tx, err := k.db.BeginTx(t.Context(), nil)
			if err != nil {
				t.Fatal(err)
			}
			defer tx.Rollback() //nolint:errcheck // after a commit there is nothing to undo
			if _, err := nonces.Prune(t.Context(), tx, dialect, k.clock()); err != nil {
				t.Fatal(err)
			}
			if err := tx.Commit(); err != nil {
				t.Fatal(err)
			}
		}
		r := k.start(t, func(c *exactlyonce.Config) { c.Keep = 2 * time.Minute })
		ok(t, do(t.Context(), r, call(newID(), proven), bump))
		for range 10 { // minutes
			k.pass(58 * time.Second)
			window()
			k.pass(2 * time.Second)
			r.Prune(t.Context())
		}
		if requests, nonces := k.rows(t), k.nonces(t); requests != 0 || nonces != 0 {
			t.Errorf("%d requests and %d nonces are kept after ten minutes, want none", requests, nonces)
		}
	})
}
