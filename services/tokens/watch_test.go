package tokens_test

import (
	"database/sql"
	"runtime/debug"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	tokensv1 "example.com/rolecall/gen/tokens/v1"
	"example.com/rolecall/internal/node"
	"example.com/rolecall/internal/node/nodetest"
	"example.com/rolecall/internal/store/storetest"
	"example.com/rolecall/services/tokens"
)

func (h *house) revoke(t *testing.T, pair *tokensv1.TokenPair) string {
	t.Helper()
	if _, err := h.bob.Revoke(nodetest.Context(t), &tokensv1.RevokeRequest{RefreshToken: pair.GetRefreshToken()}); err != nil {
		t.Fatalf("revoke: %v", err)
	}
	return part(t, pair.GetAccessToken(), 1)["sid"].(string)
}

func TestAWatchBeginsWithASnapshotAndIsResumedWhereItEnded(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		first := h.revoke(t, h.login(t))
		messages, _ := follow(t, h.admin, &tokensv1.WatchRevocationsRequest{})
		m := <-messages
		if m.GetKeys().GetJws() == "" || len(m.GetKeys().GetChain()) == 0 {
			t.Fatalf("the first message is %v, want the keys", m)
		}
		m = next(t, messages)
		if m.GetSession().GetSession() != first || m.GetSequence() != 1 {
			t.Fatalf("got %v, want the session %s with number 1", m, first)
		}
		if left := m.GetSession().GetForgetAfter().AsTime().Sub(h.clock.now()); left < 10*time.Minute+time.Minute {
			t.Errorf("it may be forgotten in %s, before verifiers with a leeway of a minute refuse the token by themselves", left)
		}
		complete := next(t, messages)
		if complete.GetSnapshotComplete() == nil || complete.GetSequence() != 1 {
			t.Fatalf("got %v, want the end of the snapshot", complete)
		}
		second := h.revoke(t, h.login(t))
		if m = next(t, messages); m.GetSession().GetSession() != second || m.GetSequence() != 2 || m.GetEpoch() != complete.GetEpoch() {
			t.Fatalf("got %v, want the session %s with number 2", m, second)
		}

		resumed, _ := follow(t, h.admin, &tokensv1.WatchRevocationsRequest{Epoch: m.GetEpoch(), AfterSequence: 1})
		if m := next(t, resumed); m.GetSession().GetSession() != second {
			t.Errorf("resumed after number 1: got %v, want the session %s", m, second)
		}
		if m := next(t, resumed); m.GetSnapshotComplete() == nil || m.GetSequence() != 2 {
			t.Errorf("resumed after number 1: got %v, want the end of the snapshot", m)
		}
		foreign, _ := follow(t, h.admin, &tokensv1.WatchRevocationsRequest{Epoch: "another", AfterSequence: 2})
		if m := next(t, foreign); m.GetSession().GetSession() != first {
			t.Errorf("resumed in an epoch that is not known: got %v, want the whole snapshot", m)
		}

		h.clock.advance(13 * time.Minute)
		later, _ := follow(t, h.admin, &tokensv1.WatchRevocationsRequest{})
		if m := next(t, later); m.GetSnapshotComplete() == nil || m.GetSequence() != 2 {
			t.Errorf("when all tokens have expired: got %v, want an empty snapshot", m)
		}
	})
}

func TestAWatchFromTheFutureBeginsANewEpoch(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		messages, ended := follow(t, h.admin, &tokensv1.WatchRevocationsRequest{})
		before := next(t, messages)
		_, refused := follow(t, h.admin, &tokensv1.WatchRevocationsRequest{Epoch: before.GetEpoch(), AfterSequence: 7})
		for name, ended := range map[string]<-chan error{"the watch from the future": refused, "a watch of the old epoch": ended} {
			select {
			case err := <-ended:
				if status.Code(err) != codes.Unavailable {
					t.Errorf("%s ended with %v, want Unavailable", name, err)
				}
			case <-time.After(nodetest.Patience):
				t.Errorf("%s goes on", name)
			}
		}
		again, _ := follow(t, h.admin, &tokensv1.WatchRevocationsRequest{Epoch: before.GetEpoch()})
		if after := next(t, again); after.GetEpoch() == before.GetEpoch() {
			t.Error("the epoch is the same as before")
		}
	})
}

// Attack: a verifier that lies about what it knows.
func TestAVerifierDoesNotEndTheStreamsOfAllOverAndOver(t *testing.T) {
	t.Parallel()
	h := newHouse(t, "")
	lie := func() string {
		t.Helper()
		messages, _ := follow(t, h.admin, &tokensv1.WatchRevocationsRequest{})
		epoch := next(t, messages).GetEpoch()
		_, refused := follow(t, h.admin, &tokensv1.WatchRevocationsRequest{Epoch: epoch, AfterSequence: 7})
		select {
		case err := <-refused:
			if status.Code(err) != codes.Unavailable {
				t.Errorf("the liar's own stream ended with %v, want Unavailable", err)
			}
		case <-time.After(nodetest.Patience):
			t.Fatal("the liar is believed")
		}
		return epoch
	}
	before, second, third := lie(), lie(), lie()
	if before == second || second != third {
		t.Errorf("the epochs are %s, %s and %s: want the first lie alone to begin a new one", before, second, third)
	}
	if n := strings.Count(h.log.String(), "a verifier knows of revocations"); n != 1 || !strings.Contains(h.log.String(), "verifier=spiffe://mesh.local/operator/alice") {
		t.Errorf("the log tells of %d, want 1 with the name of the verifier", n)
	}
	h.clock.advance(11 * time.Minute)
	if fourth, fifth := lie(), lie(); fourth == fifth {
		t.Error("ten minutes later a database that was put back is not noticed")
	}
}

func TestAWatchShowsThatItIsAlive(t *testing.T) {
	t.Parallel()
	h := newHouse(t, "", func(c *tokens.Config) { c.Heartbeat = 20 * time.Millisecond })
	messages, _ := follow(t, h.admin, &tokensv1.WatchRevocationsRequest{})
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

// fill puts revocations of 100 KB each into the database of a service that does not run.
func fill(t *testing.T, path string, n int) {
	t.Helper()
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close() //nolint:errcheck // what counts is what was written
	for _, statement := range []string{
		"WITH RECURSIVE c (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < $1) INSERT INTO revocations" +
			" (sequence, session, username, generation, forget_us) SELECT n, printf('%0100000d', n), '', 0, 1 << 60 FROM c",
		"UPDATE state SET sequence = $1",
	} {
		if _, err := db.Exec(statement, n); err != nil {
			t.Fatal(err)
		}
	}
}

func TestTheStopEndsWatchesAlsoOfAReaderWhoDoesNotRead(t *testing.T) {
	t.Parallel()
	h := newHouse(t, "")
	database := storetest.SQLite(t)
	start := func() *nodetest.Service {
		return h.mesh.Start(t, "tokens", database, tokens.New(h.config()), h.peer, func(cfg *node.Config) { cfg.Grace = time.Second })
	}
	if err := start().Stop(); err != nil {
		t.Fatal(err)
	}
	const many = 200 // of 100 KB each: more than the 16 MB that gRPC lets a connection buffer
	fill(t, database, many)
	service := start()
	admin := tokensv1.NewTokensServiceClient(h.mesh.Client(t, "/operator/alice", service))
	_, stalled := follow(t, admin, &tokensv1.WatchRevocationsRequest{}) // reads until its first message is taken
	reader, ended := follow(t, admin, &tokensv1.WatchRevocationsRequest{})
	for m := next(t, reader); m.GetSnapshotComplete() == nil; m = next(t, reader) {
	}
	began := time.Now()
	service.Begin()
	for range reader { // what was under way
	}
	if err := <-ended; status.Code(err) != codes.Unavailable {
		t.Errorf("the watch that is read ended with %v, want Unavailable", err)
	}
	t.Logf("the watch that is read ended after %s", time.Since(began))
	if err := service.Stop(); err != nil {
		t.Errorf("stop: %v", err)
	}
	if took := time.Since(began); took > nodetest.Patience {
		t.Errorf("the stop took %s, want little more than its grace of a second", took)
	}
	select {
	case err := <-stalled:
		t.Errorf("the reader who does not read has read %v", err)
	default:
	}
}

func TestAPanicInAWatchEndsThatWatchAlone(t *testing.T) {
	t.Parallel()
	var panics atomic.Bool
	h := newHouse(t, "", func(c *tokens.Config) {
		now := c.Now
		c.Now = func() time.Time {
			if panics.Load() && strings.Contains(string(debug.Stack()), ").sendRevoked(") {
				panic("the clock is broken")
			}
			return now()
		}
	})
	panics.Store(true)
	messages, ended := follow(t, h.admin, &tokensv1.WatchRevocationsRequest{})
	for range messages { // the keys come first
	}
	if err := <-ended; status.Code(err) != codes.Internal || strings.Contains(err.Error(), "clock") {
		t.Errorf("the watch ended with %v, want a bare Internal", err)
	}
	panics.Store(false)
	messages, _ = follow(t, h.admin, &tokensv1.WatchRevocationsRequest{})
	next(t, messages)
}

func TestARevocationThroughOneReplicaReachesTheWatchersOfTheOtherWithinASecond(t *testing.T) {
	t.Parallel()
	h := newHouse(t, storetest.Postgres(t))
	second := h.replica(t)
	admin := tokensv1.NewTokensServiceClient(h.mesh.Client(t, "/operator/alice", second))
	messages, _ := follow(t, admin, &tokensv1.WatchRevocationsRequest{})
	if m := next(t, messages); m.GetSnapshotComplete() == nil {
		t.Fatalf("got %v, want an empty snapshot", m)
	}
	told := int64(0)
	nodetest.WithinASecond(t, "the watcher is told", func() time.Duration {
		pair := h.login(t)
		began := time.Now()
		session := h.revoke(t, pair)
		told++
		if m := next(t, messages); m.GetSession().GetSession() != session || m.GetSequence() != told {
			t.Errorf("got %v, want the session %s with number %d", m, session, told)
		}
		return time.Since(began)
	})

	// Both replicas follow users: a raise is told once.
	everywhere := h.login(t)
	if _, err := h.bob.Revoke(nodetest.Context(t), &tokensv1.RevokeRequest{RefreshToken: everywhere.GetRefreshToken(), Everywhere: true}); err != nil {
		t.Fatalf("revoke everywhere: %v", err)
	}
	for range 2 {
		told++
		if m := next(t, messages); m.GetSequence() != told {
			t.Errorf("got %v, want number %d", m, told)
		}
	}
	marker := h.revoke(t, h.login(t))
	if m := next(t, messages); m.GetSession().GetSession() != marker {
		t.Errorf("got %v, want nothing between the raise and the session %s", m, marker)
	}

	// A token of one replica is refreshed by the other, and verified with the keys of either.
	bob := tokensv1.NewTokensServiceClient(h.mesh.Client(t, "/operator/bob", second))
	refreshed, err := bob.Refresh(nodetest.Context(t), &tokensv1.RefreshRequest{RefreshToken: h.login(t).GetRefreshToken()})
	if err != nil {
		t.Fatalf("refresh through the other replica: %v", err)
	}
	h.waitSelf(t, refreshed.GetTokens().GetAccessToken(), "")
}
