package store_test

import (
	"errors"
	"testing"
	"testing/fstest"
	"time"

	"example.com/rolecall/interceptors/proof"
	"example.com/rolecall/internal/store"
	"example.com/rolecall/internal/store/storetest"
)

func TestAnSQLiteFileHasNothingBeside(t *testing.T) {
	t.Parallel()
	for _, url := range []string{"", storetest.SQLite(t)} {
		if db, err := store.Beside("ledger", url); db != nil || err != nil {
			t.Errorf("%q: got %v, %v, want neither", url, db, err)
		}
	}
}

// Two replicas that remember used proofs beside the tables of a service, which are made after them.
func TestReplicasShareWhatLiesBesideTheirTables(t *testing.T) {
	t.Parallel()
	url := storetest.Postgres(t)
	var windows []proof.Window
	for range 2 {
		pool, err := store.Beside("ledger", url)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = pool.Close() })
		windows = append(windows, proof.PostgreSQLWindow(pool))
	}
	db, err := store.Open(t.Context(), store.Config{Service: "ledger", URL: url, Migrations: fstest.MapFS{
		"0001_none.sql": {Data: []byte("-- +goose Up\nSELECT 1;\n")},
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	now := time.Now()
	nonce := proof.Nonce{Signer: "spiffe://mesh.local/service/orders", Value: "AAAAAAAAAAAAAAAAAAAAAA", Issued: now, Expires: now.Add(time.Minute), Now: now}
	for i, want := range []error{nil, proof.ErrReplayed} {
		if err := windows[i].Burn(t.Context(), nonce); !errors.Is(err, want) {
			t.Errorf("replica %d: got %v, want %v", i, err, want)
		}
	}
	var rows int
	if err := db.QueryRow(t.Context(), "SELECT COUNT(*) FROM rolecall_nonces").Scan(&rows); err != nil || rows != 1 {
		t.Errorf("in the schema of the service: %d rows, %v; want 1", rows, err)
	}
}
