package proof

import (
	"context"
	"math"
	"math/rand/v2"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"example.com/rolecall/interceptors/internal/feature"
)

// tries decides whether a call is made again. gRPC's own retry does not know which refusals come before anything happens.
type tries struct {
	client     *client
	method     string
	idempotent bool
	made       int       // before this one, those aside that were refused as expired; nobody knows what came of them
	expired    int       // before this one
	since      time.Time // of the first that was refused as expired, by the monotonic clock
	otherKey   bool      // the connections on which another certificate was shown have been closed
}

func (c *client) tries(method string, idempotent bool) *tries {
	return &tries{client: c, method: method, idempotent: idempotent}
}

// patience is for how long a proof may be refused as expired by a server that will take one soon: one that has started just
// now takes none of before and, since clocks differ, of its first seconds.
func (c *client) patience() time.Duration {
	if c.pace.patience > 0 {
		return c.pace.patience
	}
	return 2*c.cfg.Leeway + time.Second
}

// again waits and tells whether to try again. A proof that came too late, or too early after the server's start, or whose key
// the server could not find, was refused before anything happened; everything else is repeated only where the descriptor says
// that this does no harm.
func (t *tries) again(ctx context.Context, err error) bool {
	if t.reconnected(err) {
		return true
	}
	pace, before := t.client.pace, 0
	left := time.Duration(math.MaxInt64)
	switch code := status.Code(err); {
	case feature.RefusedFor(err, "PROOF_EXPIRED", t.method):
		if t.expired++; t.expired == 1 {
			t.since = time.Now()
		}
		before = t.expired
		if left = t.client.patience() - time.Since(t.since); left <= 0 {
			return false
		}
	case t.idempotent && (code == codes.Unavailable || code == codes.Aborted):
		if t.made++; t.made >= feature.MaxAttempts {
			return false
		}
		before = t.made
	default:
		return false
	}
	limit := pace.backoff << min(before-1, 10)
	wait := min(max(limit, retryDelay(err)), pace.longest)
	wait = min(wait/2+rand.N(wait), left) // 0.5 to 1.5 of it: those who failed together do not come back together
	if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) <= wait {
		return false
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// reconnected tells, once, whether a call was refused because the server did not know its key, and a connection on which the present
// one is shown may help.
func (t *tries) reconnected(err error) bool {
	if t.otherKey || !feature.RefusedFor(err, "PROOF_SIGNER_UNKNOWN", t.method) {
		return false
	}
	t.otherKey = true
	t.client.own.unknown()
	return t.client.to.CloseOld()
}

// retryDelay is what the server asks to wait.
func retryDelay(err error) time.Duration {
	for _, detail := range status.Convert(err).Details() {
		if info, ok := detail.(*errdetails.RetryInfo); ok {
			return info.GetRetryDelay().AsDuration()
		}
	}
	return 0
}
