package exactlyonce_test

import (
	"testing"

	"example.com/rolecall/internal/store/storetest"
)

// A replica that took a lock of the tables for its start, and waited for the calls that run, would be in a deadlock with those
// that have burned their proof and not stored their row.
func TestAReplicaStartsBesideCallsThatRun(t *testing.T) {
	t.Parallel()
	k := newKit(t, storetest.Postgres(t))
	k.createEffects(t)
	k.start(t, nil)
	for _, table := range []string{"rolecall_requests", "rolecall_requests_pruned", "rolecall_nonces", "rolecall_nonces_pruned"} {
		tx, err := k.db.BeginTx(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = tx.Rollback() }) // before the pool is closed
		if _, err := tx.ExecContext(t.Context(), "LOCK TABLE "+table+" IN ROW EXCLUSIVE MODE"); err != nil {
			t.Fatal(err)
		}
	}
	k.start(t, nil) // fails after 30 s if it waits for those who write
}

func TestTheTablesAreMadeInTheFirstSchemaOfTheSearchPath(t *testing.T) {
	t.Parallel()
	k := newKit(t, storetest.Postgres(t))
	k.createEffects(t)
	k.start(t, nil)
	k.exec(t, `CREATE SCHEMA "Another one"`)
	other := newKit(t, k.url+"&search_path=%22Another%20one%22%2Cpublic")
	other.start(t, nil)
	if n := k.number(t, "SELECT COUNT(*) FROM pg_tables WHERE tablename LIKE 'rolecall_%'"); n != 8 {
		t.Errorf("there are %d tables, want 4 in each of the two schemas", n)
	}
}
