package proof

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	keysv1 "example.com/rolecall/gen/keys/v1"
)

// ownKeys are the keys of this workload: the one that its certificate has now, and the one that the key server has acknowledged.
// What others must find the key of is signed with the acknowledged one. Safe for concurrent use.
type ownKeys struct {
	present
	announces bool // there is a key server
	now       func() time.Time
	acked     atomic.Pointer[credential]
	first     chan struct{} // closed when a key was acknowledged
	once      sync.Once
	again     chan struct{} // somebody did not know a key: announce it again
}

func newOwnKeys(source x509svid.Source, announces bool, now func() time.Time) *ownKeys {
	return &ownKeys{present: present{source: source}, announces: announces, now: now, first: make(chan struct{}), again: make(chan struct{}, 1)}
}

// choose returns what to sign with: after a rotation the old key, until the key server has acknowledged the new one. At the
// start, and when the old certificate is about to end, the present one: a peer finds its key on the connection.
func (o *ownKeys) choose() (*credential, error) {
	now, err := o.get()
	acked := o.acked.Load()
	if !o.announces || acked == nil || o.ending(acked) {
		return now, err
	}
	return acked, nil
}

// ending tells whether a certificate is too near its end to sign with: what is signed has to arrive before.
func (o *ownKeys) ending(c *credential) bool {
	margin := min(10*time.Second, c.notAfter.Sub(c.notBefore)/8)
	return !o.now().Before(c.notAfter.Add(-margin))
}

// unknown says that a server did not know the key of a proof.
func (o *ownKeys) unknown() {
	select {
	case o.again <- struct{}{}:
	default:
	}
}

// announcer announces the own keys.
type announcer struct {
	*ownKeys
	client keysv1.KeysServiceClient // over the connection that stays
	dial   func(target string, server spiffeid.ID, opts ...grpc.DialOption) (*grpc.ClientConn, error)
	target string
	server spiffeid.ID
	pace   pace
	log    *slog.Logger
}

// run announces each certificate that the source has, until ctx ends.
func (a *announcer) run(ctx context.Context) {
	var last, checked time.Time // of the last acknowledgement, and question for it, by the monotonic clock
	wait, failing := a.pace.redial, false
	for {
		pause := a.pace.tick
		if time.Since(checked) >= a.pace.check {
			if checked = time.Now(); a.forgotten(ctx) {
				last = time.Time{}
			}
		}
		if err := a.step(ctx, &last); err != nil && ctx.Err() == nil {
			if !failing {
				a.log.Warn("the own key cannot be announced to the key server; until then requests are signed with the one before", "error", err)
			}
			failing = true
			pause, wait = wait/2+rand.N(wait), min(2*wait, a.pace.most)
		} else {
			wait, failing = a.pace.redial, false
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		case <-a.again:
			// At most now and then, whatever servers say.
			if time.Since(last) > a.pace.most {
				last = time.Time{}
			}
		}
	}
}

// forgotten tells whether the key server says that it does not know the acknowledged key any more: it was put back from a copy, or
// had no room.
func (a *announcer) forgotten(ctx context.Context) bool {
	c := a.acked.Load()
	if c == nil {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, a.pace.fetch)
	defer cancel()
	_, err := a.client.GetKeys(ctx, &keysv1.GetKeysRequest{SpiffeId: c.id.String(), Kid: c.signer.KeyID()})
	return status.Code(err) == codes.NotFound
}

// step announces the present certificate if that is due.
func (a *announcer) step(ctx context.Context, last *time.Time) error {
	c, err := a.get()
	if err != nil {
		return err
	}
	if c == a.acked.Load() && !last.IsZero() && time.Since(*last) < a.pace.renew {
		return nil
	}
	if err := a.announce(ctx, c); err != nil {
		return fmt.Errorf("announce the key %s: %w", c.signer.KeyID(), err)
	}
	a.acked.Store(c)
	*last = time.Now()
	a.once.Do(func() { close(a.first) })
	return nil
}

// announce shows a certificate to the key server, over a connection of its own: on one that is open already, the certificate
// before it was shown.
func (a *announcer) announce(ctx context.Context, c *credential) (err error) {
	conn, err := a.dial(a.target, a.server)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	ctx, cancel := context.WithTimeout(ctx, a.pace.fetch)
	defer cancel()
	answer, err := keysv1.NewKeysServiceClient(conn).Announce(ctx, &keysv1.AnnounceRequest{})
	if err != nil {
		return err
	}
	if answer.GetKid() != c.signer.KeyID() {
		return fmt.Errorf("the key server has recorded %.64q: the certificate has changed meanwhile", answer.GetKid())
	}
	return nil
}

// Announced returns once the key server has acknowledged a key of this workload, so that others can verify what its Signer
// signs; without a key server, at once.
func (f *Feature) Announced(ctx context.Context) error {
	p := f.running.Load()
	if p == nil {
		return errNotStarted
	}
	if !p.own.announces {
		return nil
	}
	select {
	case <-p.own.first:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("proof: the key server %s has not acknowledged the own key yet: %w", p.cfg.Server, ctx.Err())
	case <-p.ctx.Done():
		return errClosed
	}
}
