package agentd

import (
	"context"
	"crypto/x509"
	"time"

	"github.com/spiffe/go-spiffe/v2/svid/x509svid"

	"example.com/rolecall/pki"
)

// bundleInterval is how often the bundle file is looked at while the agent's own certificate is under none of its roots.
const bundleInterval = 2 * time.Second

// followFile takes over the roots that somebody puts into the bundle file, until ctx ends, if they alone are those of the
// agent's own certificate: the root was replaced while this machine was off, and an operator has put a new certificate and
// the present bundle in their places, in whichever order. Otherwise the authority alone tells the roots.
func (k *bundleKeeper) followFile(ctx context.Context, own *credential) {
	for ctx.Err() == nil {
		if chain := own.chain(); validAt(chain[0], time.Now()) {
			k.reread(chain)
		}
		pause(ctx, bundleInterval)
	}
}

// reread takes the roots in the file, as a start does, if the chain is under one of them and under none at hand. A file that
// holds what it held before is not taken: it could not be written, and its roots may be those that were taken back.
func (k *bundleKeeper) reread(chain []*x509.Certificate) {
	k.mu.Lock()
	defer k.mu.Unlock()
	_, _, err := x509svid.Verify(chain, k.roots)
	if err == nil {
		k.said = ""
		return
	}
	roots, unread := pki.ReadBundle(k.path)
	if unread != nil {
		err = unread
	} else if digest := pki.BundleDigest(roots.X509Authorities()); digest != k.inFile && roots.TrustDomain() == k.roots.TrustDomain() {
		if _, _, err = x509svid.Verify(chain, roots); err == nil {
			k.inFile = digest
			k.setRootsLocked(roots, digest, 0)
			return
		}
	}
	if err.Error() != k.said {
		k.log.Error("the agent's own certificate is under none of its roots: put the present bundle into its file (rolecall pki bundle)",
			"path", k.path, "error", err)
		k.said = err.Error()
	}
}
