package usertoken_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/timestamppb"

	tokensv1 "example.com/rolecall/gen/tokens/v1"
	"example.com/rolecall/interceptors"
	"example.com/rolecall/interceptors/internal/jws"
)

const tokensPath = "/service/tokens"

type (
	watchRequest = tokensv1.WatchRevocationsRequest
	watchStream  = grpc.ServerStreamingServer[tokensv1.WatchRevocationsResponse]
	message      = tokensv1.WatchRevocationsResponse
)

// tokens is a tokens service that a test makes say whatever it likes.
type tokens struct {
	tokensv1.UnimplementedTokensServiceServer
	t      testing.TB
	source interceptors.Source
	now    func() time.Time

	fetches atomic.Int64 // of keys
	watches atomic.Int64 // streams that were opened

	mu      sync.Mutex
	keys    map[string]*ecdsa.PrivateKey
	signed  *tokensv1.SignedKeys // nil: made anew each time
	epoch   string
	log     []*message    // revocations, in their order
	changed chan struct{} // closed and replaced with each
	cut     chan struct{} // closed: every stream ends
	quiet   bool          // no heartbeats
	script  func(*watchRequest, watchStream) error
	asked   []*watchRequest
}

func newTokens(t testing.TB, source interceptors.Source) *tokens {
	s := &tokens{t: t, source: source, now: time.Now, keys: map[string]*ecdsa.PrivateKey{}, epoch: "e1", changed: make(chan struct{}), cut: make(chan struct{})}
	s.keys["k1"] = newKey(t)
	return s
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// change changes what the service does, while it does it.
func (s *tokens) change(how func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	how()
}

// signedKeys returns the present keys under the signature of a source's certificate, after the claims have been changed.
func (s *tokens) signedKeys(source interceptors.Source, change func(claims map[string]any)) *tokensv1.SignedKeys {
	svid, err := source.GetX509SVID()
	if err != nil {
		s.t.Fatal(err)
	}
	set := []jws.JWK{}
	for id, key := range s.keys {
		jwk, err := jws.NewJWK(id, &key.PublicKey)
		if err != nil {
			s.t.Fatal(err)
		}
		set = append(set, jwk)
	}
	claims := map[string]any{"iss": svid.ID.String(), "iat": s.now().Unix(), "exp": s.now().Add(time.Hour).Unix(), "keys": set}
	if change != nil {
		change(claims)
	}
	signer, err := jws.NewSigner("svid", svid.PrivateKey)
	if err != nil {
		s.t.Fatal(err)
	}
	text, err := signer.Sign("rolecall-keys+jwt", claims)
	if err != nil {
		s.t.Fatal(err)
	}
	signed := &tokensv1.SignedKeys{Jws: text}
	for _, cert := range svid.Certificates {
		signed.Chain = append(signed.Chain, cert.Raw)
	}
	return signed
}

func (s *tokens) present() *tokensv1.SignedKeys {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.signed != nil {
		return s.signed
	}
	return s.signedKeys(s.source, nil)
}

func (s *tokens) GetKeys(context.Context, *tokensv1.GetKeysRequest) (*tokensv1.GetKeysResponse, error) {
	s.fetches.Add(1)
	return &tokensv1.GetKeysResponse{Keys: s.present()}, nil
}

func (s *tokens) WatchRevocations(req *watchRequest, stream watchStream) error {
	s.mu.Lock()
	s.asked = append(s.asked, req)
	s.watches.Add(1) // who has seen it finds asked as long
	script := s.script
	s.mu.Unlock()
	if script != nil {
		return script(req, stream)
	}
	return s.honest(req, stream)
}

// honest does what the tokens service does.
func (s *tokens) honest(req *watchRequest, stream watchStream) error {
	if err := stream.Send(s.at(&message{Change: &tokensv1.WatchRevocationsResponse_Keys{Keys: s.present()}}, 0)); err != nil {
		return err
	}
	sent, complete := 0, false
	s.mu.Lock()
	cut := s.cut
	if req.GetEpoch() == s.epoch {
		sent = int(req.GetAfterSequence())
	}
	s.mu.Unlock()
	beat := time.NewTicker(50 * time.Millisecond)
	defer beat.Stop()
	for {
		s.mu.Lock()
		news, changed, quiet := s.log[min(sent, len(s.log)):], s.changed, s.quiet
		s.mu.Unlock()
		for _, m := range news {
			if err := stream.Send(m); err != nil {
				return err
			}
			sent++
		}
		if !complete {
			complete = true
			if err := stream.Send(s.at(&message{Change: &tokensv1.WatchRevocationsResponse_SnapshotComplete{}}, sent)); err != nil {
				return err
			}
		}
		select {
		case <-stream.Context().Done():
			return stream.Context().Err()
		case <-cut:
			return nil
		case <-changed:
		case <-beat.C:
			if !quiet {
				if err := stream.Send(s.at(&message{Change: &tokensv1.WatchRevocationsResponse_Heartbeat{}}, sent)); err != nil {
					return err
				}
			}
		}
	}
}

func (s *tokens) at(m *message, sequence int) *message {
	s.mu.Lock()
	defer s.mu.Unlock()
	m.Epoch, m.Sequence = s.epoch, int64(sequence)
	return m
}

// revoke adds to what was revoked.
func (s *tokens) revoke(m *message) {
	s.mu.Lock()
	defer s.mu.Unlock()
	m.Epoch, m.Sequence = s.epoch, int64(len(s.log)+1)
	s.log = append(s.log, m)
	close(s.changed)
	s.changed = make(chan struct{})
}

// cutStreams ends the streams that are open.
func (s *tokens) cutStreams() {
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.cut)
	s.cut = make(chan struct{})
}

func sessionRevoked(session string) *message {
	return &message{Change: &tokensv1.WatchRevocationsResponse_Session{Session: &tokensv1.SessionRevoked{
		Session: session, ForgetAfter: timestamppb.New(time.Now().Add(10 * time.Minute)),
	}}}
}

func generationRaised(user string, generation int64) *message {
	return &message{Change: &tokensv1.WatchRevocationsResponse_Generation{Generation: &tokensv1.GenerationRaised{
		Username: user, Generation: generation, ForgetAfter: timestamppb.New(time.Now().Add(10 * time.Minute)),
	}}}
}

// draft is a token before it is signed.
type draft struct {
	header, claims map[string]any
	headerText     string // instead of header, if set
	payload        string // instead of claims, if set
	key            *ecdsa.PrivateKey
	now            int64 // of all its times: between two looks at the clock a second may end
}

// mint signs a token of the user with these roles, after every change had its turn at it.
func (s *tokens) mint(user string, roles []string, changes ...func(*draft)) string {
	now := s.now().Unix()
	s.mu.Lock()
	key := s.keys["k1"]
	s.mu.Unlock()
	d := &draft{
		header: map[string]any{"alg": "ES256", "typ": "at+jwt", "kid": "k1"},
		claims: map[string]any{
			"iss": "spiffe://mesh.local" + tokensPath, "aud": "spiffe://mesh.local", "sub": user, "client_id": "spiffe://mesh.local/operator/bob",
			"jti": rand.Text(), "sid": "session-of-" + user, "roles": append([]string{}, roles...), "gen": 1,
			"iat": now, "nbf": now, "exp": now + 600, "auth_time": now - 60,
		},
		key: key, now: now,
	}
	for _, change := range changes {
		change(d)
	}
	text := func(instead string, object map[string]any) []byte {
		if instead != "" {
			return []byte(instead)
		}
		out, err := json.Marshal(object)
		if err != nil {
			s.t.Fatal(err)
		}
		return out
	}
	return sign(s.t, d.key, text(d.headerText, d.header), text(d.payload, d.claims))
}

// sign makes a JWS of any header and payload with an ES256 signature.
func sign(t testing.TB, key *ecdsa.PrivateKey, header, payload []byte) string {
	t.Helper()
	signed := base64.RawURLEncoding.EncodeToString(header) + "." + base64.RawURLEncoding.EncodeToString(payload)
	sum := sha256.Sum256([]byte(signed))
	r, v, err := ecdsa.Sign(rand.Reader, key, sum[:])
	if err != nil {
		t.Fatal(err)
	}
	signature := make([]byte, 64)
	r.FillBytes(signature[:32])
	v.FillBytes(signature[32:])
	return signed + "." + base64.RawURLEncoding.EncodeToString(signature)
}

func claim(name string, value any) func(*draft) { return func(d *draft) { d.claims[name] = value } }

func without(name string) func(*draft) { return func(d *draft) { delete(d.claims, name) } }

func header(name string, value any) func(*draft) { return func(d *draft) { d.header[name] = value } }
