package exactlyonce_test

import (
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	ledgerv1 "example.com/rolecall/gen/ledger/v1"
	"example.com/rolecall/interceptors/exactlyonce"
	"example.com/rolecall/interceptors/internal/feature"
)

var cancelled = status.New(codes.FailedPrecondition, "the transfer was cancelled")

// keyOf is what who has sent the request asks for it by.
func keyOf(c *feature.OnceCall) exactlyonce.Key {
	return exactlyonce.Key{
		Method: c.Method, Peer: c.Peer, Signer: c.Signer, User: c.User,
		RequestID: c.Message.(*ledgerv1.TransferRequest).GetRequestId(),
	}
}

func TestADelayedFirstAttemptAfterAStoredRefusal(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, k *kit) {
		r, c := k.start(t, nil), call(newID(), proven)
		found, err := r.Find(t.Context(), keyOf(c))
		if found != nil || err != nil {
			t.Fatalf("find before: got %v, %v, want none", found, err)
		}
		for range 2 {
			stands, err := r.Cancel(t.Context(), keyOf(c), cancelled)
			if err != nil || stands.Refusal.Code() != codes.FailedPrecondition || stands.Response != nil {
				t.Errorf("cancel: got %v, %v", stands, err)
			}
		}
		if got := do(t.Context(), r, c, bump); got != (result{Code: codes.FailedPrecondition}) {
			t.Errorf("the attempt that came late: got %+v", got)
		}
		k.check(t, 0, 1, 1)
	})
}

func TestCancelAfterTheRequestTookEffectReturnsItsResponse(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, k *kit) {
		r, c := k.start(t, nil), call(newID(), proven)
		first := ok(t, do(t.Context(), r, c, bump))
		key := keyOf(c)
		key.RequestID = strings.ToUpper(key.RequestID)
		stands, err := r.Cancel(t.Context(), key, cancelled)
		if err != nil || stands.Refusal != nil || string(stands.Response) != first.Response || stands.Stored.IsZero() {
			t.Errorf("cancel: got %v, %v", stands, err)
		}
		found, err := r.Find(t.Context(), key)
		if err != nil || found == nil || string(found.Response) != first.Response {
			t.Errorf("find: got %v, %v", found, err)
		}
		for name, change := range map[string]func(*exactlyonce.Key){
			"peer":   func(key *exactlyonce.Key) { key.Peer = billing },
			"signer": func(key *exactlyonce.Key) { key.Signer = billing },
			"user":   func(key *exactlyonce.Key) { key.User = "" },
			"method": func(key *exactlyonce.Key) { key.Method = open },
		} {
			other := key
			change(&other)
			if found, err := r.Find(t.Context(), other); found != nil || err != nil {
				t.Errorf("find by another %s: got %v, %v", name, found, err)
			}
			if stands, err := r.Cancel(t.Context(), other, cancelled); err != nil || stands.Refusal == nil {
				t.Errorf("cancel by another %s: got %v, %v", name, stands, err)
			}
		}
		k.check(t, 1, 5, 1)
	})
}

func TestFindAndCancelRefuseWhatIsNoKeyAndNoRefusal(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, k *kit) {
		r := k.start(t, nil)
		if _, err := r.Find(t.Context(), exactlyonce.Key{RequestID: "1"}); status.Code(err) != codes.InvalidArgument {
			t.Errorf("find: got %v", err)
		}
		if _, err := r.Cancel(t.Context(), exactlyonce.Key{RequestID: "1"}, cancelled); status.Code(err) != codes.InvalidArgument {
			t.Errorf("cancel: got %v", err)
		}
		if _, err := r.Cancel(t.Context(), keyOf(call(newID())), status.New(codes.Unavailable, "later")); status.Code(err) != codes.Internal {
			t.Errorf("cancel with a refusal that is not final: got %v", err)
		}
		if k.rows(t) != 0 {
			t.Errorf("%d rows", k.rows(t))
		}
	})
}

func TestCancelTellsADatabaseErrorFromWantOfRoom(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, k *kit) {
		r := k.start(t, nil)
		idle(t, r)
		k.exec(t, "ALTER TABLE rolecall_requests RENAME COLUMN peer TO pier")
		if _, err := r.Cancel(t.Context(), keyOf(call(newID())), cancelled); status.Code(err) != codes.Unavailable {
			t.Errorf("got %v, want Unavailable", err)
		}
	})
}

func TestAClockThatIsAheadForAMinuteMakesNothingNew(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, k *kit) {
		r := k.start(t, nil)
		idle(t, r)
		k.pruneAfter(t, r, 0)
		c := call(newID())
		first := ok(t, do(t.Context(), r, c, bump))
		for _, pass := range []time.Duration{25 * time.Hour, time.Minute, -25 * time.Hour, time.Minute, 2 * time.Minute, 2 * time.Minute} {
			k.pass(pass)
			r.Prune(t.Context())
			if got := do(t.Context(), r, c, bump); got != first {
				t.Errorf("after %v: got %+v, want %+v", pass, got, first)
			}
		}
		k.check(t, 1, 1, 0)
	})
}

func TestPruningGoesOnUntilNothingIsLeftThatHasExpired(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, k *kit) {
		r := k.start(t, nil)
		k.exec(t, `INSERT INTO rolecall_requests (key, method, peer, signer, on_behalf_of, request_id, state, created_us, stored_us, expires_us, lease_us, fence)
			WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < 1203)
			SELECT `+map[bool]string{true: "decode(md5(CAST(n AS TEXT)), 'hex')", false: "CAST(n AS BLOB)"}[postgres(k.url)]+
			`, 'm', 'p', '', '', '', 'DONE', 0, 0, n, 0, 0 FROM numbers`)
		ok(t, do(t.Context(), r, call(newID()), bump))
		k.pruneAfter(t, r, 0)
		k.check(t, 1, 1, 0)
	})
}
