package keys_test

import (
	"database/sql"
	"testing"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib" // the driver "pgx"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	keysv1 "example.com/rolecall/gen/keys/v1"
	"example.com/rolecall/internal/node"
	"example.com/rolecall/internal/node/nodetest"
	"example.com/rolecall/internal/store/storetest"
	"example.com/rolecall/services/keys"
)

func TestAWatchBeginsWithASnapshotAndIsResumedWithoutLoss(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		source := h.mesh.CA.Source("/service/orders")
		first := h.announce(t, source)
		messages, _ := follow(t, h.reader(t), &keysv1.WatchKeysRequest{})
		m := next(t, messages)
		if m.GetKey().GetKid() != first || m.GetKey().GetSpiffeId() != "spiffe://mesh.local/service/orders" || m.GetSequence() != 1 {
			t.Fatalf("got %v, want the key %s with number 1", m, first)
		}
		complete := next(t, messages)
		if complete.GetSnapshotComplete() == nil || complete.GetSequence() != 1 {
			t.Fatalf("got %v, want the end of the snapshot", complete)
		}
		source.Renew()
		second := h.announce(t, source)
		if m = next(t, messages); m.GetKey().GetKid() != second || m.GetSequence() != 2 || m.GetEpoch() != complete.GetEpoch() {
			t.Fatalf("got %v, want the key %s with number 2", m, second)
		}
		source.Renew()
		third := h.announce(t, source)

		resumed, _ := follow(t, h.reader(t), &keysv1.WatchKeysRequest{Epoch: m.GetEpoch(), AfterSequence: 1})
		for i, want := range []string{second, third} {
			if m := next(t, resumed); m.GetKey().GetKid() != want || m.GetSequence() != int64(i+2) {
				t.Errorf("resumed after number 1: got %v, want the key %s with number %d", m, want, i+2)
			}
		}
		if m := next(t, resumed); m.GetSnapshotComplete() == nil || m.GetSequence() != 3 {
			t.Errorf("resumed after number 1: got %v, want the end of the snapshot", m)
		}
		foreign, _ := follow(t, h.reader(t), &keysv1.WatchKeysRequest{Epoch: "another", AfterSequence: 2})
		if m := next(t, foreign); m.GetKey().GetKid() != first {
			t.Errorf("resumed in an epoch that is not known: got %v, want the whole snapshot", m)
		}
		h.clock.advance(2 * time.Hour)
		later, _ := follow(t, h.reader(t), &keysv1.WatchKeysRequest{})
		if m := next(t, later); m.GetSnapshotComplete() == nil || m.GetSequence() != 3 {
			t.Errorf("when all keys have expired: got %v, want an empty snapshot", m)
		}
	})
}

func TestAWatchResumedAfterARestartMissesNothing(t *testing.T) {
	t.Parallel()
	h := newHouse(t, storetest.Postgres(t))
	source := h.mesh.CA.Source("/service/orders")
	h.announce(t, source)
	messages, ended := follow(t, h.reader(t), &keysv1.WatchKeysRequest{})
	next(t, messages)
	complete := next(t, messages)
	h.server.Begin()
	for range messages { // what was under way
	}
	if err := <-ended; status.Code(err) != codes.Unavailable {
		t.Errorf("at the stop the watch ended with %v, want %s", err, codes.Unavailable)
	}
	if err := h.server.Stop(); err != nil {
		t.Fatal(err)
	}
	h.server = h.start(t)
	source.Renew()
	missed := h.announce(t, source)
	resumed, _ := follow(t, h.reader(t), &keysv1.WatchKeysRequest{Epoch: complete.GetEpoch(), AfterSequence: complete.GetSequence()})
	if m := next(t, resumed); m.GetKey().GetKid() != missed || m.GetSequence() != 2 {
		t.Errorf("got %v, want the key that was announced in between and no other", m)
	}
}

func TestAnAnnouncementAtOneReplicaReachesTheWatchersOfTheOther(t *testing.T) {
	t.Parallel()
	h := newHouse(t, storetest.Postgres(t))
	second := h.start(t)
	client, _ := dial(t, h.mesh.CA.Source("/service/reader"), second)
	messages, _ := follow(t, client, &keysv1.WatchKeysRequest{})
	if m := next(t, messages); m.GetSnapshotComplete() == nil {
		t.Fatalf("got %v, want an empty snapshot", m)
	}
	source := h.mesh.CA.Source("/service/orders")
	kid := h.announce(t, source)
	if m := next(t, messages); m.GetKey().GetKid() != kid || m.GetSequence() != 1 {
		t.Errorf("got %v, want the key %s", m, kid)
	}
	if again := announce(t, source, second); again != kid {
		t.Errorf("announced to the other replica: %s, want %s", again, kid)
	}
	if got := kids(t, client, "spiffe://mesh.local/service/orders"); len(got) != 1 {
		t.Errorf("got %v, want one key", got)
	}
	source.Renew()
	h.announce(t, source)
	if m := next(t, messages); m.GetSequence() != 2 {
		t.Errorf("got %v, want number 2: what is known is no news at the other replica either", m)
	}
}

func TestAWatchEndsWhereTheDatabaseIsPutBackFromACopy(t *testing.T) {
	t.Parallel()
	url := storetest.Postgres(t)
	h := newHouse(t, url)
	source := h.mesh.CA.Source("/service/orders")
	messages, ended := follow(t, h.reader(t), &keysv1.WatchKeysRequest{})
	h.announce(t, source)
	last := next(t, messages)
	for last.GetSequence() < 1 {
		last = next(t, messages)
	}
	db, err := sql.Open("pgx", url)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close() //nolint:errcheck // nothing is left to be written
	if _, err := db.ExecContext(t.Context(), "DELETE FROM keys.announced; UPDATE keys.state SET sequence = 0, identities = 0"); err != nil {
		t.Fatal(err)
	}
	for range messages { // what was under way
	}
	if err := <-ended; status.Code(err) != codes.Unavailable {
		t.Errorf("the watch ended with %v, want Unavailable", err)
	}
	kid := h.announce(t, source)
	messages, _ = follow(t, h.reader(t), &keysv1.WatchKeysRequest{Epoch: last.GetEpoch(), AfterSequence: last.GetSequence()})
	if m := next(t, messages); m.GetKey().GetKid() != kid || m.GetEpoch() == last.GetEpoch() {
		t.Errorf("got %v, want the key %s, in another epoch", m, kid)
	}
}

func TestAWatchShowsThatItIsAlive(t *testing.T) {
	t.Parallel()
	h := newHouse(t, "", func(c *keys.Config) { c.Heartbeat = 20 * time.Millisecond })
	messages, _ := follow(t, h.reader(t), &keysv1.WatchKeysRequest{})
	late := time.After(nodetest.Patience)
	for beats := 0; beats < 3; {
		select {
		case m := <-messages:
			if m.GetHeartbeat() != nil {
				beats++
			}
		case <-late:
			t.Fatal("no sign of life")
		}
	}
}

func TestTheStopEndsWatches(t *testing.T) {
	t.Parallel()
	h := newHouse(t, "")
	h.server = h.start(t, func(cfg *node.Config) { cfg.Database, cfg.Grace = storetest.SQLite(t), nodetest.Patience })
	messages, ended := follow(t, h.reader(t), &keysv1.WatchKeysRequest{})
	next(t, messages)
	began := time.Now()
	if err := h.server.Stop(); err != nil {
		t.Error(err)
	}
	if err := <-ended; status.Code(err) != codes.Unavailable {
		t.Errorf("the watch ended with %v, want %s", err, codes.Unavailable)
	}
	took := time.Since(began)
	t.Logf("stopped after %s", took)
	if took >= nodetest.Patience {
		t.Errorf("the open watch held up the stop for all of its grace, %s", nodetest.Patience)
	}
}
