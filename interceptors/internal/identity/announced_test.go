package identity

import (
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
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
		{"one more that is junk, of 17 KB", [][]byte{good[0], good[1], bulky(t, 17<<10)}, time.Now(), nobody, false},
		{"one more that is junk, of 12 KB", [][]byte{good[0], good[1], bulky(t, 12<<10)}, time.Now(), nobody, true},
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

// What was verified is looked at again: nothing that has happened since is overlooked.
func TestAnAnnouncedChainIsCheckedAgain(t *testing.T) {
	t.Parallel()
	end := time.Now().Add(time.Hour)
	root, next := newRoot(t, "root"), newRoot(t, "next")
	issuer := root.issuer(t, newKey(t), end)
	leaf := issuer.leaf(t, ledger, end)
	with := func(roots ...*x509.Certificate) source {
		return source{bundle: x509bundle.FromX509Authorities(mesh, roots)}
	}
	keyOf := func(h holder) Key { return sha256.Sum256(h.cert.RawSubjectPublicKeyInfo) }
	nobody := func(spiffeid.ID, Key) bool { return false }
	only := func(key Key) func(spiffeid.ID, Key) bool { return func(_ spiffeid.ID, k Key) bool { return k == key } }
	certs := []*x509.Certificate{leaf.cert, issuer.cert}
	a, err := Announce(certs, with(root.cert), time.Now(), nobody)
	must(t, err)
	if !leaf.key.PublicKey.Equal(a.PublicKey()) {
		t.Errorf("got the key %v, want the leaf's", a.PublicKey())
	}
	for _, c := range []struct {
		name    string
		bundles source
		at      time.Time
		denied  func(spiffeid.ID, Key) bool
		want    bool
	}{
		{"nothing has changed", with(root.cert), time.Now(), nobody, true},
		{"another root has joined", with(next.cert, root.cert), time.Now(), nobody, true},
		{"its root has left", with(next.cert), time.Now(), nobody, false},
		{"no root is left", with(), time.Now(), nobody, false},
		{"it has expired", with(root.cert), end.Add(time.Second), nobody, false},
		{"the ID is denied", with(root.cert), time.Now(), func(id spiffeid.ID, _ Key) bool { return id == ledger }, false},
		{"its key is denied", with(root.cert), time.Now(), only(keyOf(leaf)), false},
		{"its issuer's key is denied", with(root.cert), time.Now(), only(keyOf(issuer)), false},
		{"its root's key is denied", with(root.cert), time.Now(), only(keyOf(root)), false},
		{"another's key is denied", with(root.cert), time.Now(), only(keyOf(next)), true},
	} {
		again, err := a.Recheck(c.bundles, c.at, c.denied)
		if (err == nil) != c.want || c.want && again != a {
			t.Errorf("%s: got %v, %v, want it to hold: %v", c.name, again, err, c.want)
		}
	}
	// The root has been replaced by one with the same key and name: the chain is verified anew.
	template := caTemplate(t, "root", end)
	again, err := a.Recheck(with(sign(t, template, holder{template, root.key}, root.key.Public())), time.Now(), nobody)
	if err != nil || again == a {
		t.Errorf("a new certificate of the root: got %v, %v, want another verified chain", again, err)
	}
}

// A bundle may vouch for one workload by the certificate itself. It is the whole chain then.
func TestALeafThatIsInTheBundleIsAChainOfItsOwn(t *testing.T) {
	t.Parallel()
	end := time.Now().Add(time.Hour)
	root := newRoot(t, "root")
	leaf := root.leaf(t, ledger, end)
	bundles := source{bundle: x509bundle.FromX509Authorities(mesh, []*x509.Certificate{leaf.cert})}
	nobody := func(spiffeid.ID, Key) bool { return false }
	a, err := Announce([]*x509.Certificate{leaf.cert, root.cert}, bundles, time.Now(), nobody)
	must(t, err)
	if !leaf.key.PublicKey.Equal(a.PublicKey()) {
		t.Errorf("got the key %v, want the leaf's", a.PublicKey())
	}
	// No longer by itself, but by its root: everything is verified anew.
	bundles = source{bundle: x509bundle.FromX509Authorities(mesh, []*x509.Certificate{root.cert})}
	if again, err := a.Recheck(bundles, time.Now(), nobody); err != nil || !leaf.key.PublicKey.Equal(again.PublicKey()) {
		t.Errorf("got %v, %v, want it to hold by the root", again, err)
	}
}

// bulky is a certificate of nobody with an extension of so many bytes.
func bulky(t *testing.T, size int) []byte {
	t.Helper()
	template := caTemplate(t, "junk", time.Now().Add(time.Hour))
	template.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 2, 3, 4}, Value: make([]byte, size)}}
	key := newKey(t)
	return sign(t, template, holder{template, key}, key.Public()).Raw
}

// What somebody put beside a chain is not kept for as long as the key.
func TestOnlyCertificatesOfVerifiedChainsAreKept(t *testing.T) {
	t.Parallel()
	end := time.Now().Add(time.Hour)
	root := newRoot(t, "root")
	issuer := root.issuer(t, newKey(t), end)
	leaf := issuer.leaf(t, ledger, end)
	other := newRoot(t, "other").issuer(t, newKey(t), end)
	bundles := source{bundle: x509bundle.FromX509Authorities(mesh, []*x509.Certificate{root.cert})}
	certs, err := ParseChain([][]byte{leaf.cert.Raw, other.cert.Raw, bulky(t, 8<<10), issuer.cert.Raw})
	must(t, err)
	a, err := Announce(certs, bundles, time.Now(), func(spiffeid.ID, Key) bool { return false })
	must(t, err)
	if len(a.presented) != 2 || !a.presented[0].Equal(leaf.cert) || !a.presented[1].Equal(issuer.cert) {
		t.Errorf("%d certificates are kept, want leaf and issuer", len(a.presented))
	}
}
