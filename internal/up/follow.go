package up

import (
	"context"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"

	"example.com/rolecall/pki"
)

// lookEvery is how often the authority's folder is looked at: what somebody does there by hand (a new root, a revoked
// issuer) is to be followed at once, and unchanged files cost nothing.
const lookEvery = time.Second

// followAuthority brings what changes in the authority's folder to those who go by files, until ctx ends: the bundle of the
// mesh follows the authority's, and an issuer that is missing (revoked, say) is made at once where the root is at hand.
// What cannot be done is logged by who does it again at leisure: KeepRotated.
func (r *run) followAuthority(ctx context.Context) {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	written := bundleDigest(r.ca.Issuers().Bundle())
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		// The bundle first: to make an issuer takes a while.
		_ = r.ca.Issuers().Refresh()
		written = r.followBundle(written)
		_, _ = r.ca.Rotate()
	}
}

// followBundle writes the bundle of the mesh if it is another one than the written one, and returns which one it is now.
func (r *run) followBundle(written [32]byte) [32]byte {
	bundle := r.ca.Issuers().Bundle()
	digest := bundleDigest(bundle)
	if digest == written {
		return written
	}
	if err := pki.WriteBundle(r.dir.Bundle(), bundle); err != nil {
		r.log.Error("the mesh's bundle was not written; the next try is soon", "error", err)
		return written
	}
	r.log.Info("the bundle has changed", "roots", len(bundle.X509Authorities()), "phase", string(r.ca.Issuers().Rotation().Phase))
	return digest
}

func bundleDigest(bundle *x509bundle.Bundle) [32]byte {
	return pki.BundleDigest(bundle.X509Authorities())
}
