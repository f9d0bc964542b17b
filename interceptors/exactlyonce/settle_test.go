package exactlyonce_test

import (
	"strings"
	"testing"

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
		if _, err := r.Cancel(t.Context(), keyOf(call(newID())), status.New(codes.Unavailable, "later")); err == nil {
			t.Error("a refusal that is not final was stored")
		}
		if k.rows(t) != 0 {
			t.Errorf("%d rows", k.rows(t))
		}
	})
}

func TestAPeerCannotFillTheDatabase(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, k *kit) {
		r := k.start(t, func(c *exactlyonce.Config) { c.MaxRows = 3 })
		idle(t, r)
		own := func(c *feature.OnceCall) { c.User = "" }
		first := call(newID(), own)
		ok(t, do(t.Context(), r, first, bump))
		ok(t, do(t.Context(), r, call(newID(), own), bump))
		ok(t, do(t.Context(), r, call(newID(), own), bump))
		full := result{Verdict: feature.TooMany}
		if got := do(t.Context(), r, call(newID(), own), bump); got != full {
			t.Errorf("the fourth: got %+v", got)
		}
		other := k.start(t, func(c *exactlyonce.Config) { c.MaxRows = 3 })
		idle(t, other)
		if got := do(t.Context(), other, call(newID(), own), bump); got != full {
			t.Errorf("the fourth after a restart: got %+v", got)
		}
		// What has no room can still be settled, as often again.
		for n := range 4 {
			want := map[int]codes.Code{3: codes.ResourceExhausted}[n]
			if _, err := r.Cancel(t.Context(), keyOf(call(newID(), own)), cancelled); status.Code(err) != want {
				t.Errorf("cancellation %d: got %v, want %v", n+1, err, want)
			}
		}
		ok(t, do(t.Context(), r, first, bump))
		ok(t, do(t.Context(), r, call(newID(), func(c *feature.OnceCall) { c.Peer = billing }), bump))
		k.pass(exactlyonce.DefaultKeep)
		r.Prune(t.Context())
		if k.rows(t) != 0 {
			t.Errorf("%d rows are left after they have expired", k.rows(t))
		}
		ok(t, do(t.Context(), r, call(newID()), bump))
	})
}

func TestOneUserDoesNotTakeTheRoomOfTheOthers(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, k *kit) {
		room := func(c *exactlyonce.Config) { c.MaxRows = 20 }
		r := k.start(t, room)
		idle(t, r)
		mallory := func(c *feature.OnceCall) { c.User = "user:mallory" }
		for n := range 10 {
			want := result{Verdict: feature.TooMany}
			if got := do(t.Context(), r, call(newID(), mallory), bump); n >= 2 && got != want || n < 2 && got.Verdict != feature.Good {
				t.Errorf("request %d: got %+v", n+1, got)
			}
		}
		ok(t, do(t.Context(), r, call(newID()), bump))
		ok(t, do(t.Context(), r, call(newID(), func(c *feature.OnceCall) { c.User = "" }), bump))
		ok(t, do(t.Context(), r, call(newID(), mallory, func(c *feature.OnceCall) { c.Peer = billing }), bump))
		again := k.start(t, room)
		idle(t, again)
		if got := do(t.Context(), again, call(newID(), mallory), bump); got != (result{Verdict: feature.TooMany}) {
			t.Errorf("after a restart: got %+v", got)
		}
		k.check(t, 5, 5, 0)
		k.pass(exactlyonce.DefaultKeep)
		r.Prune(t.Context())
		ok(t, do(t.Context(), r, call(newID(), mallory), bump))
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

func TestPruningGoesOnUntilNothingIsLeftThatHasExpired(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, k *kit) {
		r := k.start(t, nil)
		k.exec(t, `INSERT INTO rolecall_requests (key, method, peer, signer, on_behalf_of, request_id, state, created_us, stored_us, expires_us, lease_us, fence)
			WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < 1203)
			SELECT `+map[bool]string{true: "decode(md5(CAST(n AS TEXT)), 'hex')", false: "CAST(n AS BLOB)"}[postgres(k.url)]+
			`, 'm', 'p', '', '', '', 'DONE', 0, 0, n, 0, 0 FROM numbers`)
		ok(t, do(t.Context(), r, call(newID()), bump))
		r.Prune(t.Context())
		k.check(t, 1, 1, 0)
	})
}
