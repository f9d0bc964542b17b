package exactlyonce_test

import (
	"context"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"

	"example.com/rolecall/interceptors/exactlyonce"
	"example.com/rolecall/interceptors/internal/feature"
)

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
		k.pruneAfter(t, r, exactlyonce.DefaultKeep)
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
		k.pruneAfter(t, r, exactlyonce.DefaultKeep)
		ok(t, do(t.Context(), r, call(newID(), mallory), bump))
	})
}

// What is stored of a saga that runs is bounded for each of them, and in number for each user.
func TestWhatASagaStoresWhileItRunsIsBounded(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, k *kit) {
		r := k.start(t, nil, never(t))
		idle(t, r)
		crash := pay(func(context.Context, *exactlyonce.Saga) error { return status.Error(codes.Unavailable, "crash") })
		big := call(newID())
		big.Message.ProtoReflect().SetUnknown(protowire.AppendBytes(protowire.AppendTag(nil, 1007, protowire.BytesType), make([]byte, 64<<10)))
		if got := do(t.Context(), r, big, crash); got.Code != codes.InvalidArgument {
			t.Errorf("more than 64 KiB: got %+v", got)
		}
		for n := range 101 {
			got, want := do(t.Context(), r, call(newID(), proven), crash), result{Code: codes.Unavailable}
			if n == 100 {
				want = result{Verdict: feature.TooMany}
			}
			if got != want {
				t.Fatalf("request %d that does not end: got %+v, want %+v", n+1, got, want)
			}
		}
		k.check(t, 100, 101, 100)
		for name, change := range map[string]func(*feature.OnceCall){
			"another user":         func(c *feature.OnceCall) { c.User = "user:erin" },
			"the workload itself":  func(c *feature.OnceCall) { c.User = "" },
			"the user, by another": func(c *feature.OnceCall) { c.Peer = billing },
		} {
			if got := do(t.Context(), r, call(newID(), change), crash); got.Verdict != feature.Good {
				t.Errorf("%s: got %+v", name, got)
			}
		}
	})
}
