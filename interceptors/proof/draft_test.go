package proof_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"

	"example.com/rolecall/interceptors/internal/jws"
	"example.com/rolecall/interceptors/internal/wire"
	"example.com/rolecall/rolecalltest"
)

// draft is a proof before it is signed, whatever it says.
type draft struct {
	header, claims      map[string]any
	headerText, payload string // in place of header and claims
	key                 *ecdsa.PrivateKey
	now                 int64 // when it is made, in seconds since 1970
}

type change func(*draft)

func claim(name string, value any) change {
	return func(d *draft) { d.claims[name] = value }
}

// in is a claim that is a time so many seconds from when the proof is made. All of one proof are reckoned from the same second.
func in(name string, seconds int64) change {
	return func(d *draft) { d.claims[name] = d.now + seconds }
}

func without(name string) change { return func(d *draft) { delete(d.claims, name) } }

func header(name string, value any) change {
	return func(d *draft) { d.header[name] = value }
}

func b64(data string) string { return base64.RawURLEncoding.EncodeToString([]byte(data)) }

func hash(data []byte) string {
	sum := sha256.Sum256(data)
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

func newNonce() string {
	var b [16]byte
	_, _ = rand.Read(b[:])
	return base64.RawURLEncoding.EncodeToString(b[:])
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	return key
}

func kidOf(t testing.TB, key crypto.PublicKey) string {
	t.Helper()
	kid, err := jws.Thumbprint(key.(*ecdsa.PublicKey))
	must(t, err)
	return kid
}

// attacker holds the certificate of a workload and makes proofs by hand.
type attacker struct {
	*mesh
	source *rolecalltest.Source
	conn   *grpc.ClientConn
}

func (m *mesh) attacker(path string) *attacker {
	source := m.ca.Source(path)
	return &attacker{m, source, m.bare(source)}
}

func (a *attacker) key() *ecdsa.PrivateKey {
	svid, _ := a.source.GetX509SVID()
	return svid.PrivateKey.(*ecdsa.PrivateKey)
}

// prove makes a proof that is good but for the changes.
func (a *attacker) prove(method string, body []byte, changes ...change) string {
	a.t.Helper()
	svid, _ := a.source.GetX509SVID()
	now := a.config.now().Unix()
	d := &draft{
		header: map[string]any{"alg": "ES256", "typ": "rolecall-proof+jwt", "kid": kidOf(a.t, svid.Certificates[0].PublicKey)},
		claims: map[string]any{
			"iss": svid.ID.String(), "aud": a.ca.ID(bankPath).String(), "mth": method, "bth": hash(body),
			"jti": newNonce(), "iat": now, "exp": now + 30,
		},
		key: a.key(), now: now,
	}
	for _, c := range changes {
		c(d)
	}
	return d.sign(a.t)
}

func (d *draft) sign(t testing.TB) string {
	t.Helper()
	head, payload := d.headerText, d.payload
	if head == "" {
		text, err := json.Marshal(d.header)
		must(t, err)
		head = string(text)
	}
	if payload == "" {
		text, err := json.Marshal(d.claims)
		must(t, err)
		payload = string(text)
	}
	signed := b64(head) + "." + b64(payload)
	sum := sha256.Sum256([]byte(signed))
	r, s, err := ecdsa.Sign(rand.Reader, d.key, sum[:])
	must(t, err)
	var signature [64]byte
	r.FillBytes(signature[:32])
	s.FillBytes(signature[32:])
	return signed + "." + base64.RawURLEncoding.EncodeToString(signature[:])
}

// send makes a call with the exact bytes, and the metadata given as for metadata.Pairs.
func send(ctx context.Context, conn grpc.ClientConnInterface, method string, body []byte, pairs ...string) (receipt string, err error) {
	var trailer metadata.MD
	answer := &wire.Captured{}
	err = conn.Invoke(metadata.AppendToOutgoingContext(ctx, pairs...), method, &wire.Raw{Bytes: body}, answer, grpc.ForceCodecV2(wire.Codec()), grpc.Trailer(&trailer))
	if values := trailer.Get("rolecall-receipt"); len(values) == 1 {
		receipt = values[0]
	}
	return receipt, err
}

// bodyOf is a request in bytes.
func bodyOf(t testing.TB, to string, amount int64) []byte {
	t.Helper()
	body, err := proto.Marshal(payment(t, to, amount))
	must(t, err)
	return body
}
