package exactlyonce_test

import (
	"testing"
	"time"

	"example.com/rolecall/interceptors/internal/feature"
)

// The verifier has taken the proof, and then the call has waited for who writes.
func TestDelaysPastTheExpiryWhileACallWaitsForTheDatabase(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, k *kit) {
		r := k.start(t, nil)
		c := call(newID(), proven)
		k.pass(31 * time.Second)
		if got := do(t.Context(), r, c, bump); got.Verdict != feature.Expired {
			t.Errorf("got %+v, want Expired", got)
		}
		if k.effects(t) != 0 || k.rows(t) != 0 {
			t.Errorf("%d effects, %d rows, want none", k.effects(t), k.rows(t))
		}
		k.pass(-31 * time.Second)
		ok(t, do(t.Context(), r, c, bump)) // nothing was used up
	})
}
