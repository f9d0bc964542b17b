package identity

import (
	"bytes"
	"crypto/sha256"
	"maps"
	"slices"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

// Trust is one view of the bundles: the roots of each trust domain that was asked for. Immutable.
type Trust struct {
	roots map[spiffeid.TrustDomain][]rootHash // sorted
}

// ReadTrust reads the roots of the trust domains. A trust domain without a bundle has no roots: nothing is trusted
// rather than the last thing that was.
func ReadTrust(bundles x509bundle.Source, domains []spiffeid.TrustDomain) *Trust {
	t := &Trust{roots: make(map[spiffeid.TrustDomain][]rootHash, len(domains))}
	for _, td := range domains {
		var hashes []rootHash
		if bundle, err := bundles.GetX509BundleForTrustDomain(td); err == nil && bundle != nil {
			for _, root := range bundle.X509Authorities() {
				hashes = append(hashes, sha256.Sum256(root.Raw))
			}
		}
		slices.SortFunc(hashes, func(a, b rootHash) int { return bytes.Compare(a[:], b[:]) })
		t.roots[td] = slices.Compact(hashes)
	}
	return t
}

// Equal reports whether both views hold the same roots, in whatever order the bundles listed them.
func (t *Trust) Equal(other *Trust) bool {
	return maps.EqualFunc(t.roots, other.roots, slices.Equal[[]rootHash])
}

// filter returns the chains that have not expired, end at a root of the view and have no denied CA.
func (t *Trust) filter(td spiffeid.TrustDomain, chains []Chain, wall time.Time, deniedCA func(Key) bool) []Chain {
	roots := t.roots[td]
	anchored := slices.DeleteFunc(slices.Clone(chains), func(chain Chain) bool {
		return !slices.Contains(roots, chain.root) || !wall.Before(chain.ends)
	})
	return withoutDenied(anchored, deniedCA)
}

func withoutDenied(chains []Chain, deniedCA func(Key) bool) []Chain {
	return slices.DeleteFunc(slices.Clone(chains), func(chain Chain) bool {
		return slices.ContainsFunc(chain.CAs, deniedCA)
	})
}
