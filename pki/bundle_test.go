package pki

import (
	"crypto/sha256"
	"crypto/x509"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestTheDigestOfABundleIsThatOfASet(t *testing.T) {
	t.Parallel()
	a, b, c := memoryRoot(t, RootOptions{}).cert, memoryRoot(t, RootOptions{}).cert, memoryRoot(t, RootOptions{}).cert
	want := BundleDigest([]*x509.Certificate{a, b, c})
	for _, test := range []struct {
		name  string
		roots []*x509.Certificate
		same  bool
	}{
		{"the same bundle in another order", []*x509.Certificate{c, a, b}, true},
		{"the same bundle with one twice", []*x509.Certificate{a, b, c, b}, true},
		{"the same bundle with one removed", []*x509.Certificate{a, b}, false},
		{"the same bundle with one more", []*x509.Certificate{a, b, c, memoryRoot(t, RootOptions{}).cert}, false},
		{"no roots", nil, false},
	} {
		if got := BundleDigest(test.roots); (got == want) != test.same {
			t.Errorf("%s: digest %x beside %x, want the same: %v", test.name, got, want, test.same)
		}
	}
	sums := [][32]byte{sha256.Sum256(c.Raw), sha256.Sum256(a.Raw), sha256.Sum256(b.Raw)}
	before := slices.Clone(sums)
	if DigestOf(sums) != want {
		t.Error("DigestOf of the certificates' sums is not BundleDigest of the certificates")
	}
	if !slices.Equal(sums, before) {
		t.Error("DigestOf changed the order of its argument")
	}
	// Fixed, since agents and authorities of different releases compare it.
	sorted := slices.SortedFunc(slices.Values(sums), func(x, y [32]byte) int { return slices.Compare(x[:], y[:]) })
	if got := sha256.Sum256(slices.Concat(sorted[0][:], sorted[1][:], sorted[2][:])); got != want {
		t.Errorf("digest %x, want the SHA-256 over the ascending sums: %x", want, got)
	}
}

func TestRootsWithOneSubject(t *testing.T) {
	t.Parallel()
	namesakes := namesakes(t, 150)
	for _, root := range namesakes { // what the profile asks beside the rest
		root.SubjectKeyId = []byte{1}
	}
	if _, err := NewBundle(namesakes); err == nil || !strings.Contains(err.Error(), "150 roots, 1 to 64 are accepted") {
		t.Errorf("150 roots with one Subject: %v, want a refusal", err)
	}

	// Go gives up on a chain after 100 checks of signatures, so a bundle of more roots could hide the right one. With as
	// many as are accepted it is found, and the search is short.
	roots := pool(namesakes[:maxRoots-1]...)
	key, err := NewKey()
	must(t, err)
	template := *namesakes[0]
	template.SerialNumber, template.PublicKey = newSerial(), key.Public()
	last, err := sign(&template, &template, key.Public(), key)
	must(t, err)
	roots.AddCert(last)
	issuer, err := (&Root{cert: last, key: key, now: time.Now}).newIssuer(1, 30*time.Minute)
	must(t, err)
	leaf := leafUnder(t, issuer, func(*x509.Certificate) {})
	began := time.Now()
	if _, err := leaf.Verify(x509.VerifyOptions{Roots: roots, Intermediates: pool(issuer.Certificate)}); err != nil {
		t.Errorf("the right root is the last of %d with one Subject: %v", maxRoots, err)
	}
	t.Logf("found among %d namesakes in %s", maxRoots, time.Since(began).Round(time.Microsecond))
}
