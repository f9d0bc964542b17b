package authority

import (
	"context"
	"crypto/sha256"
	"fmt"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/jwtbundle"
	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	authorityv1 "example.com/rolecall/gen/authority/v1"
	"example.com/rolecall/pki"
)

// refreshHint is how long clients wait before they ask for the bundle again; a tenth of a leaf's life where that is less.
const refreshHint = time.Minute

// published is one state of what verifiers go by. Immutable, but for next, which is closed when there is a newer one.
type published struct {
	bundle   *authorityv1.Bundle
	digest   [sha256.Size]byte // of the roots, as agents report it
	document []byte            // for other trust domains
	next     chan struct{}
}

// publish takes over what the issuers hold now. If that is something new, whoever watches is told.
func (a *Authority) publish() error {
	a.publishing.Lock()
	defer a.publishing.Unlock()
	fresh, err := a.describe()
	if err != nil {
		return fmt.Errorf("describe the bundle: %w", err)
	}
	old := a.current.Load()
	if old != nil && fresh.bundle.GetSequence() < old.bundle.GetSequence() {
		// The directory was put back to an older state while this process ran; agents keep what has the higher number.
		if err := a.issuers.RaiseSequence(old.bundle.GetSequence()); err != nil {
			return err
		}
		if fresh, err = a.describe(); err != nil {
			return fmt.Errorf("describe the bundle: %w", err)
		}
	}
	if old != nil && proto.Equal(old.bundle, fresh.bundle) {
		return nil
	}
	a.current.Store(fresh)
	if old != nil {
		close(old.next)
		a.log.Info("new bundle", "sequence", fresh.bundle.GetSequence(), "roots", len(fresh.bundle.GetRoots()),
			"revoked_issuers", len(fresh.bundle.GetRevokedIssuers()))
	}
	return nil
}

// describe reads the issuers. Roots, keys and number belong together: it reads again if the number changed meanwhile.
func (a *Authority) describe() (*published, error) {
	for {
		sequence := a.issuers.Sequence()
		roots, keys, revoked := a.issuers.Bundle(), a.issuers.JWTBundle(), a.issuers.Revoked()
		if a.issuers.Sequence() == sequence {
			return a.encode(sequence, roots, keys, revoked)
		}
	}
}

func (a *Authority) encode(sequence uint64, roots *x509bundle.Bundle, keys *jwtbundle.Bundle, revoked []pki.Revocation) (*published, error) {
	td, hint := roots.TrustDomain(), a.hint()
	jwtKeys, err := pki.EncodeBundleDocument(x509bundle.New(td), keys, sequence, hint)
	if err != nil {
		return nil, err
	}
	document, err := pki.EncodeBundleDocument(roots, keys, sequence, hint)
	if err != nil {
		return nil, err
	}
	bundle := &authorityv1.Bundle{TrustDomain: td.Name(), Sequence: sequence, Roots: raw(roots.X509Authorities()),
		JwtKeys: jwtKeys, RefreshHintSeconds: int64(hint / time.Second)}
	now := time.Now()
	for _, r := range revoked {
		if now.Before(r.Certificate.NotAfter) {
			bundle.RevokedIssuers = append(bundle.RevokedIssuers, r.KeySHA256[:])
		}
	}
	return &published{bundle: bundle, digest: pki.BundleDigest(roots.X509Authorities()), document: document, next: make(chan struct{})}, nil
}

// hint is whole seconds, at least one.
func (a *Authority) hint() time.Duration {
	return min(refreshHint, max(a.life/10, time.Second)).Truncate(time.Second)
}

// GetBundle returns the present bundle.
func (a *Authority) GetBundle(context.Context, *authorityv1.GetBundleRequest) (*authorityv1.GetBundleResponse, error) {
	bundle := a.current.Load().bundle
	return &authorityv1.GetBundleResponse{TrustDomain: bundle.GetTrustDomain(), Roots: bundle.GetRoots(),
		RefreshHintSeconds: bundle.GetRefreshHintSeconds(), Bundle: bundle}, nil
}

// WatchBundle sends the present bundle and each newer one, until the client or the node ends it. A client that does not
// read has one message on its way, and then gets the newest: what came in between is skipped, never kept.
func (a *Authority) WatchBundle(_ *authorityv1.WatchBundleRequest, stream grpc.ServerStreamingServer[authorityv1.WatchBundleResponse]) error {
	for {
		now := a.current.Load()
		if err := stream.Send(&authorityv1.WatchBundleResponse{Bundle: now.bundle}); err != nil {
			return err
		}
		select {
		case <-now.next:
		case <-stream.Context().Done():
			return status.FromContextError(stream.Context().Err()).Err()
		case <-a.stopping:
			return status.Error(codes.Unavailable, "the authority is stopping: watch again")
		}
	}
}
