package pki

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/google/go-cmp/cmp"
	"github.com/spiffe/go-spiffe/v2/bundle/jwtbundle"
	"github.com/spiffe/go-spiffe/v2/bundle/spiffebundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

// jwk encodes a key as a member of a bundle document.
func jwk(t *testing.T, use, kid string, key any, certs ...*x509.Certificate) string {
	t.Helper()
	data, err := json.Marshal(jose.JSONWebKey{Use: use, KeyID: kid, Key: key, Certificates: certs})
	must(t, err)
	return string(data)
}

func document(keys ...string) string { return `{"keys":[` + strings.Join(keys, ",") + `]}` }

func TestABundleDocumentIsReadBackByUsAndByGoSPIFFE(t *testing.T) {
	t.Parallel()
	one, two := memoryRoot(t, RootOptions{}), memoryRoot(t, RootOptions{P384: true})
	key, err := NewKey()
	must(t, err)
	keys := map[string]crypto.PublicKey{"b": key.Public(), "a": one.key.Public()}
	roots := bundleOf(two, one)
	data, err := EncodeBundleDocument(roots, jwtbundle.FromJWTAuthorities(testDomain, keys), 1_800_000_000, 90*time.Second+time.Millisecond)
	must(t, err)
	want := spiffebundle.FromX509Bundle(roots)
	want.SetJWTAuthorities(keys)
	want.SetSequenceNumber(1_800_000_000)
	want.SetRefreshHint(91 * time.Second)
	ours, err := ParseBundleDocument(testDomain, data)
	must(t, err)
	theirs, err := spiffebundle.Parse(testDomain, data)
	must(t, err)
	for name, got := range map[string]*spiffebundle.Bundle{"ParseBundleDocument": ours, "go-spiffe": theirs} {
		// go-spiffe compares roots in their order.
		if BundleDigest(got.X509Authorities()) != BundleDigest(want.X509Authorities()) || !got.JWTBundle().Equal(want.JWTBundle()) {
			t.Errorf("%s reads another bundle from:\n%s", name, data)
		}
		sequence, _ := got.SequenceNumber()
		hint, _ := got.RefreshHint()
		if diff := cmp.Diff([]any{uint64(1_800_000_000), 91 * time.Second}, []any{sequence, hint}); diff != "" {
			t.Errorf("%s: sequence and hint (-want +got):\n%s", name, diff)
		}
	}
	again, err := EncodeBundleDocument(bundleOf(one, two), jwtbundle.FromJWTAuthorities(testDomain, keys), 1_800_000_000, 91*time.Second)
	must(t, err)
	if diff := cmp.Diff(string(data), string(again)); diff != "" {
		t.Errorf("the same content in another order is another text (-first +second):\n%s", diff)
	}
	// X509-SVID §6.1: kid MUST NOT be set on a root.
	if bytes.Count(data, []byte(`"kid"`)) != 2 {
		t.Errorf("want a kid on the two JWT keys only:\n%s", data)
	}
	without, err := EncodeBundleDocument(bundleOf(one), nil, 1, time.Minute)
	must(t, err)
	if got, err := ParseBundleDocument(testDomain, without); err != nil || got.JWTBundle() == nil || len(got.JWTAuthorities()) != 0 {
		t.Errorf("without JWT keys: %v", err)
	}
}

func TestWhatTheStandardSaysToPassOverIsPassedOver(t *testing.T) {
	t.Parallel()
	root, other := memoryRoot(t, RootOptions{}), memoryRoot(t, RootOptions{})
	good := jwk(t, useX509, "", root.key.Public(), root.cert)
	for _, c := range []struct{ name, data string }{
		{"a key of an unknown use", document(good, jwk(t, "wimse-svid", "a", other.key.Public()))},
		{"a use in capitals, which is another", document(good, jwk(t, "X509-SVID", "", other.key.Public(), other.cert))},
		{"a key without a use", document(good, jwk(t, "", "a", other.key.Public()))},
		{"a key of an unknown type", document(good, `{"use":"jwt-svid","kty":"PQ","kid":"q","pub":"AAAA"}`)},
		{"a key without a type", document(good, `{"use":"jwt-svid","kid":"q"}`)},
		{"a root without a certificate", document(good, jwk(t, useX509, "", other.key.Public()))},
		{"a second certificate beside a root", document(jwk(t, useX509, "", root.key.Public(), root.cert, other.cert))},
		{"a member that nobody defined", `{"extra":{"deep":[1,2,{"a":null}]},"keys":[` + good + `]}`},
		{"the same root twice", document(good, good)},
	} {
		bundle, err := ParseBundleDocument(testDomain, []byte(c.data))
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if got := bundle.X509Authorities(); len(got) != 1 || !got[0].Equal(root.cert) || len(bundle.JWTAuthorities()) != 0 {
			t.Errorf("%s: %d roots and %d JWT keys, want the one root", c.name, len(got), len(bundle.JWTAuthorities()))
		}
	}
	empty, err := ParseBundleDocument(testDomain, []byte(`{"keys":[]}`))
	if err != nil || !empty.Empty() {
		t.Errorf("every key taken back: %v, want an empty bundle", err)
	}
	hint, err := ParseBundleDocument(testDomain, []byte(`{"keys":[],"spiffe_refresh_hint":4000000000}`))
	if d, _ := hint.RefreshHint(); err != nil || d != maxRefreshHint {
		t.Errorf("a hint of 126 years: %s, error %v; want a week", d, err)
	}
}

func TestAttacksOnABundleDocument(t *testing.T) {
	t.Parallel()
	root := memoryRoot(t, RootOptions{})
	eve := memoryRoot(t, RootOptions{TrustDomain: spiffeid.RequireTrustDomainFromString("eve.local")})
	issuer, err := root.newIssuer(1, DefaultIssuerLife)
	must(t, err)
	leaf := leafUnder(t, issuer, func(*x509.Certificate) {})
	p224, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	must(t, err)
	weak, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Log("this Go makes no RSA keys of 1024 bits: ", err)
	}
	same := namesakes(t, 150)
	good := jwk(t, useX509, "", root.key.Public(), root.cert)
	token := jwk(t, useJWT, "a", root.key.Public())
	many := func(n int, key func(n int) string) string {
		keys := make([]string, n)
		for i := range keys {
			keys[i] = key(i)
		}
		return document(keys...)
	}
	type attack struct{ attack, data, want string }
	attacks := []attack{
		{"duplicate JSON keys: keys twice", `{"keys":[` + good + `],"keys":[]}`, `"keys" occurs twice`},
		{"duplicate JSON keys: one of them escaped", `{"keys":[],"\u006beys":[` + good + `]}`, `"keys" occurs twice`},
		{"duplicate JSON keys within a key", document(strings.Replace(good, `{"use"`, `{"use":"jwt-svid","use"`, 1)), `"use" occurs twice`},
		{"duplicate JSON keys in a member that nobody reads", `{"keys":[],"x":[{"a":{"b":1,"b":2}}]}`, `"b" occurs twice`},
		{"duplicate JSON keys in a bundle map", `{"trust_domains":{"mesh.local":{"keys":[]},"mesh.local":` + document(good) + `}}`, `"mesh.local" occurs twice`},
		{"a bundle map where a document should be", `{"trust_domains":{"mesh.local":` + document(good) + `}}`, `no array "keys"`},
		{"keys in capitals", `{"KEYS":[` + good + `]}`, `no array "keys"`},
		{"no keys", `{}`, `no array "keys"`},
		{"keys that are null", `{"keys":null}`, `no array "keys"`},
		{"keys that are an object", `{"keys":{}}`, `no array "keys"`},
		{"a key that is null", `{"keys":[null]}`, "key 1: not a JSON object"},
		{"more than one document", document(good) + document(), "more than one JSON value"},
		{"a truncated document", document(good)[:100], "not JSON"},
		{"nothing", "", "not JSON"},
		{"an array", "[]", "not a JSON object"},
		{"text that is not UTF-8", "{\"keys\":[],\"a\xff\":1}", "not UTF-8"},
		{"a million brackets", strings.Repeat("[", 1_000_000), "nested deeper"},
		{"more than 1 MiB", `{"keys":[],"x":"` + strings.Repeat("a", 1<<20) + `"}`, "at most 1048576"},
		{"a private key", document(jwk(t, useJWT, "a", root.key)), "a part of a private key"},
		{"a symmetric key", document(`{"use":"jwt-svid","kty":"oct","kid":"a","k":"c2VjcmV0"}`), "a part of a private key"},
		{"a root of another trust domain", document(jwk(t, useX509, "", eve.key.Public(), eve.cert)), "is about spiffe://eve.local"},
		{"a root whose key is another", document(strings.Replace(good, jsonMember(t, good, "x"), jsonMember(t, jwk(t, useX509, "", eve.key.Public(), eve.cert), "x"), 1)), "not a JWK"},
		{"a leaf presented as CA", document(jwk(t, useX509, "", leaf.PublicKey, leaf)), "is no authority"},
		{"a JWT key without an ID", document(jwk(t, useJWT, "", root.key.Public())), "needs a key ID"},
		{"two JWT keys with one ID", document(token, jwk(t, useJWT, "a", eve.key.Public())), `key ID "a" occurs twice`},
		{"a sequence number that is negative", `{"keys":[],"spiffe_sequence":-1}`, "spiffe_sequence -1"},
		{"a sequence number of 65 bits", `{"keys":[],"spiffe_sequence":18446744073709551616}`, "spiffe_sequence"},
		{"a sequence number that is text", `{"keys":[],"spiffe_sequence":"7"}`, "spiffe_sequence"},
		{"a sequence number that is null", `{"keys":[],"spiffe_sequence":null}`, "spiffe_sequence"},
		{"a refresh hint that is negative", `{"keys":[],"spiffe_refresh_hint":-5}`, "spiffe_refresh_hint"},
		{"150 roots with one Subject", many(150, func(n int) string { return jwk(t, useX509, "", same[n].PublicKey, same[n]) }), "150 roots, at most 64"},
		{"65 JWT keys", many(65, func(n int) string { return jwk(t, useJWT, fmt.Sprint(n), root.key.Public()) }), "65 JWT keys, at most 64"},
		{"a thousand keys of an unknown use", many(1000, func(int) string { return `{"use":"x"}` }), "1000 keys, at most 256"},
		{"P-224", document(strings.NewReplacer("P-256", "P-224").Replace(jwk(t, useJWT, "a", root.key.Public()))), "not a JWK"},
	}
	if weak != nil {
		attacks = append(attacks, attack{"RSA 1024", document(jwk(t, useJWT, "a", weak.Public())), "RSA key of 1024 bits"})
	}
	if checkForeignKey(p224.Public()) == nil {
		t.Error("P-224: accepted")
	}
	for _, c := range attacks {
		t.Run(c.attack, func(t *testing.T) {
			t.Parallel()
			bundle, err := ParseBundleDocument(testDomain, []byte(c.data))
			if err == nil || bundle != nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want a refusal with %q", err, c.want)
			}
		})
	}
	if _, err := ParseBundleDocument(spiffeid.TrustDomain{}, []byte(document(good))); err == nil {
		t.Error("a document of no trust domain in particular: accepted")
	}
	if _, err := EncodeBundleDocument(bundleOf(root), jwtbundle.New(eve.TrustDomain()), 1, time.Minute); err == nil {
		t.Error("roots and JWT keys of two trust domains: encoded")
	}
}

// jsonMember returns a member of a JSON object that is a string.
func jsonMember(t *testing.T, object, name string) string {
	t.Helper()
	var members map[string]any
	must(t, json.Unmarshal([]byte(object), &members))
	return members[name].(string)
}

// namesakes makes roots that all have one Subject, and no key identifier to tell them apart by. Only their keys differ.
func namesakes(t *testing.T, n int) []*x509.Certificate {
	t.Helper()
	var out []*x509.Certificate
	for range n {
		key, err := NewKey()
		must(t, err)
		template := &x509.Certificate{SerialNumber: newSerial(), Subject: pkix.Name{CommonName: "root"},
			NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
			KeyUsage: x509.KeyUsageCertSign, URIs: []*url.URL{testDomain.ID().URL()}}
		cert, err := sign(template, template, key.Public(), key)
		must(t, err)
		out = append(out, cert)
	}
	return out
}

func FuzzParseBundleDocument(f *testing.F) {
	root, err := newRoot(RootOptions{TrustDomain: testDomain})
	if err != nil {
		f.Fatal(err)
	}
	key, err := NewKey()
	if err != nil {
		f.Fatal(err)
	}
	good, err := EncodeBundleDocument(bundleOf(root), jwtbundle.FromJWTAuthorities(testDomain, map[string]crypto.PublicKey{"a": key.Public()}), 7, time.Minute)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte(`{"keys":[],"\u006beys":[]}`))
	f.Add([]byte(`{"keys":[{"use":"jwt-svid","kty":"EC"}],"spiffe_sequence":1}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		bundle, err := ParseBundleDocument(testDomain, data)
		if err != nil {
			return
		}
		// What we accept, go-spiffe reads in the same way, or not at all; and we can write it again.
		if theirs, err := spiffebundle.Parse(testDomain, data); err == nil {
			if BundleDigest(theirs.X509Authorities()) != BundleDigest(bundle.X509Authorities()) || !theirs.JWTBundle().Equal(bundle.JWTBundle()) {
				t.Errorf("go-spiffe reads another bundle")
			}
		}
		again, err := EncodeBundleDocument(bundle.X509Bundle(), bundle.JWTBundle(), 1, time.Minute)
		if err != nil {
			t.Fatalf("cannot be written again: %v", err)
		}
		if back, err := ParseBundleDocument(testDomain, again); err != nil || !back.JWTBundle().Equal(bundle.JWTBundle()) {
			t.Errorf("is not what was written: %v", err)
		}
	})
}
