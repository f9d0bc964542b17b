package identity

import (
	"crypto/sha256"
	"crypto/x509"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

func TestAChainThatWasAnnouncedIsVerifiedLikeAPeers(t *testing.T) {
	t.Parallel()
	end := time.Now().Add(time.Hour)
	root := newRoot(t, "root")
	issuer := root.issuer(t, newKey(t), end)
	leaf := issuer.leaf(t, ledger, end)
	bundles := source{bundle: x509bundle.FromX509Authorities(mesh, []*x509.Certificate{root.cert})}
	keyOf := func(h holder) Key { return sha256.Sum256(h.cert.RawSubjectPublicKeyInfo) }
	denying := func(id spiffeid.ID, keys ...Key) func(spiffeid.ID, Key) bool {
		return func(holder spiffeid.ID, key Key) bool {
			for _, k := range keys {
				if k == key {
					return true
				}
			}
			return holder == id
		}
	}
	nobody := denying(spiffeid.ID{})
	good := [][]byte{leaf.cert.Raw, issuer.cert.Raw}
	for _, c := range []struct {
		name   string
		chain  [][]byte
		at     time.Time
		denied func(spiffeid.ID, Key) bool
		want   bool
	}{
		{"leaf and issuer", good, time.Now(), nobody, true},
		{"after its end", good, end.Add(time.Second), nobody, false},
		{"without the issuer", good[:1], time.Now(), nobody, false},
		{"the issuer as if it were a leaf", good[1:], time.Now(), nobody, false},
		{"nothing", nil, time.Now(), nobody, false},
		{"seven certificates", [][]byte{good[0], good[1], good[1], good[1], good[1], good[1], good[1]}, time.Now(), nobody, false},
		{"no certificates", [][]byte{[]byte("leaf")}, time.Now(), nobody, false},
		{"the ID is denied", good, time.Now(), denying(ledger), false},
		{"the leaf's key is denied", good, time.Now(), denying(spiffeid.ID{}, keyOf(leaf)), false},
		{"the issuer's key is denied", good, time.Now(), denying(spiffeid.ID{}, keyOf(issuer)), false},
		{"the root's key is denied", good, time.Now(), denying(spiffeid.ID{}, keyOf(root)), false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			var peer *Peer
			certs, err := ParseChain(c.chain)
			if err == nil {
				peer, err = VerifyAnnounced(certs, bundles, c.at, c.denied)
			}
			if (err == nil) != c.want {
				t.Fatalf("got %v, want accepted: %v", err, c.want)
			}
			if c.want && (peer.ID != ledger || peer.Leaf != keyOf(leaf)) {
				t.Errorf("got %v", peer)
			}
		})
	}
}
