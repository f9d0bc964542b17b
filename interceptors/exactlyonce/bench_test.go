package exactlyonce_test

import (
	"context"
	"database/sql"
	"fmt"
	"testing"

	"google.golang.org/protobuf/proto"

	"example.com/rolecall/interceptors/exactlyonce"
	"example.com/rolecall/interceptors/internal/feature"
	"example.com/rolecall/internal/store/storetest"
)

func BenchmarkRequestSQLite(b *testing.B)     { benchmarkRequest(b, storetest.SQLite(b)) }
func BenchmarkRequestPostgreSQL(b *testing.B) { benchmarkRequest(b, storetest.Postgres(b)) }

// benchmarkRequest compares the same handler, which updates a row and reads it back, in a transaction of its own and exactly
// once. `make bench` prints them as ratios.
func benchmarkRequest(b *testing.B, url string) {
	k := newKit(b, url)
	k.createEffects(b)
	r := k.start(b, nil)
	db := adopt(k.url, k.db)
	handle := func(ctx context.Context, tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, "UPDATE effects SET times = times + 1 WHERE name = 'n'"); err != nil {
			return err
		}
		var n int
		return tx.QueryRowContext(ctx, "SELECT times FROM effects WHERE name = 'n'").Scan(&n)
	}
	run := func(ctx context.Context) (proto.Message, error) {
		return response("x"), handle(ctx, exactlyonce.Tx(ctx))
	}
	stored := newID()
	for _, kind := range []struct {
		name string
		one  func() error
	}{
		{"bare", func() error { return db.Write(b.Context(), handle) }},
		{"once", func() error { return good(r.Do(b.Context(), call(newID()), run)) }},
		{"with-proof", func() error { return good(r.Do(b.Context(), call(newID(), proven), run)) }},
		{"repetition", func() error { return good(r.Do(b.Context(), call(stored), run)) }},
	} {
		b.Run("what="+kind.name, func(b *testing.B) {
			for b.Loop() {
				if err := kind.one(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func good(_ []byte, verdict feature.Verdict, detail string, err error) error {
	if err == nil && verdict != feature.Good {
		return fmt.Errorf("verdict %d: %s", verdict, detail)
	}
	return err
}
