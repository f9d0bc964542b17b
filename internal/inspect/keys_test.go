package inspect_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	keysv1 "example.com/rolecall/gen/keys/v1"
	rolecallv1 "example.com/rolecall/gen/rolecall/v1"
	"example.com/rolecall/internal/inspect"
)

// announced is the key as the key server tells it.
func (s *signer) announced() *keysv1.Key {
	key := &keysv1.Key{SpiffeId: s.svid.ID.String(), Kid: s.kid}
	for _, cert := range s.svid.Certificates {
		key.Chain = append(key.Chain, cert.Raw)
	}
	return key
}

func asJSON(t *testing.T, m proto.Message) []byte {
	t.Helper()
	data, err := protojson.MarshalOptions{UseProtoNames: true, EmitDefaultValues: true, Indent: "  "}.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestAnAnswerOfTheKeyServerIsNoBundle(t *testing.T) {
	t.Parallel()
	s, other := newSigner(t), newSigner(t).announced()
	change := func(f func(*keysv1.Key)) *keysv1.Key {
		key := s.announced()
		f(key)
		return key
	}
	for name, tc := range map[string]struct {
		key  *keysv1.Key
		ok   bool
		says string
	}{
		"a good one":                     {s.announced(), true, "key of spiffe://mesh.local/operator/alice"},
		"one with another's certificate": {change(func(k *keysv1.Key) { k.Chain = other.GetChain() }), false, "PROBLEM        its certificate is for the key " + other.GetKid()},
		"one in another's name":          {change(func(k *keysv1.Key) { k.SpiffeId = "spiffe://mesh.local/operator/bob" }), false, "that of another workload"},
		"one without a certificate":      {change(func(k *keysv1.Key) { k.Chain = nil }), false, "has no certificate"},
		"one with a broken certificate":  {change(func(k *keysv1.Key) { k.Chain[0] = []byte("x") }), false, "certificate 1 of the key"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			text, ok := explain(t, asJSON(t, &keysv1.GetKeysResponse{Keys: []*keysv1.Key{tc.key}, Jwks: `{"keys":[]}`}), inspect.Options{Now: s.now})
			check(t, text, ok, tc.ok, "keys that workloads have announced", "NOT VERIFIED   whether a root", tc.says)
		})
	}
}

func TestASignatureIsVerifiedWithWhatTheKeyServerAnswers(t *testing.T) {
	t.Parallel()
	s := newSigner(t)
	file := func(keys ...*keysv1.Key) string {
		path := filepath.Join(t.TempDir(), "keys.json")
		if err := os.WriteFile(path, asJSON(t, &keysv1.GetKeysResponse{Keys: keys}), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	receipt := s.sign(t, s.header("rolecall-receipt+jwt"), s.receipt(nil))
	other := newSigner(t).announced()
	for says, path := range map[string]string{
		"holds, by spiffe://mesh.local/operator/alice": file(other, s.announced()),
		"whose thumbprint is " + other.GetKid():        file(other),
	} {
		chains, err := inspect.ReadChains(path)
		if err != nil {
			t.Fatal(err)
		}
		text, ok := explain(t, receipt, inspect.Options{Now: s.now, Chains: chains, Bundle: s.roots()})
		check(t, text, ok, strings.HasPrefix(says, "holds"), says)
	}
	key, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	text, ok := explain(t, receipt, inspect.Options{Now: s.now, Chains: [][]*x509.Certificate{{{PublicKey: key.Public()}}}})
	check(t, text, ok, false, "the certificate at hand, which is not on P-256\n")
	if chains, err := inspect.ReadChains(file(&keysv1.Key{Kid: "k"})); err == nil {
		t.Errorf("a key without a certificate: got %v", chains)
	}
}

func TestWhatIsSignedInAnAnswerIsFound(t *testing.T) {
	t.Parallel()
	s := newSigner(t)
	payment := asJSON(t, &rolecallv1.SignedResponse{Response: []byte{}, Receipt: strings.TrimSpace(string(s.sign(t, s.header("rolecall-receipt+jwt"), s.receipt([]byte{}))))})
	opts := inspect.Options{Now: s.now, Chains: s.chains(), Bundle: s.roots()}
	text, ok := explain(t, []byte(`{"order": {"state": "STATE_PAID", "payment": `+string(payment)+`}, "refund": `+string(payment)+`}`), opts)
	check(t, text, ok, true, "member         order.payment\n", "member         refund\n", "answer with its receipt", "holds, by spiffe://mesh.local/operator/alice")
	deep := strings.Repeat(`{"a": `, 20) + string(payment) + strings.Repeat("}", 20)
	if i, err := inspect.Data([]byte(deep), opts); err == nil || !strings.Contains(err.Error(), "nor a proof, a receipt") {
		t.Errorf("one that lies too deep: got %v, %v", i, err)
	}
	if i, err := inspect.Data([]byte(" \n"), opts); err == nil || !strings.Contains(err.Error(), "empty") {
		t.Errorf("nothing: got %v, %v", i, err)
	}
}
