package interceptors_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"sync"
	"sync/atomic"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"

	"example.com/rolecall/interceptors/internal/feature"
)

// fakeProof is a proof without a signature, in JSON. The zero one is of the peer itself.
type fakeProof struct {
	Signer   spiffeid.ID
	Key      [32]byte
	Nonce    string
	Narrowed bool
	Roles    []string
}

func (p fakeProof) text() string {
	text, err := json.Marshal(p)
	if err != nil {
		panic(err)
	}
	return string(text)
}

// fakeProofs is a feature for requires_proof that takes everybody's word. Its clients sign what the descriptors say.
type fakeProofs struct {
	verify  func(*feature.SignedCall) feature.Verdict // after the proof was read; nil: Good
	burn    func(*feature.Proof) feature.Verdict      // nil: Good
	allow   func(*feature.Proof) feature.Verdict      // nil: Good
	stands  func(*feature.Proof) feature.Verdict      // nil: Good
	receipt func() error
	serve   func([]feature.Method) error
	silent  atomic.Bool // clients do not sign

	mu     sync.Mutex
	calls  []*feature.SignedCall
	burned []string
}

func (f *fakeProofs) Annotations() []string { return []string{"requires_proof"} }

func (f *fakeProofs) Start(env feature.Env) (feature.Running, error) {
	return &fakeVerifier{f, env}, nil
}

type fakeVerifier struct {
	*fakeProofs
	env feature.Env
}

func (f *fakeVerifier) Close() error { return nil }

func (f *fakeVerifier) Serve(methods []feature.Method) error {
	if f.serve == nil {
		return nil
	}
	return f.serve(methods)
}

func (f *fakeVerifier) Verify(_ context.Context, call *feature.SignedCall) (*feature.Proof, feature.Verdict, string) {
	f.mu.Lock()
	f.calls = append(f.calls, call)
	f.mu.Unlock()
	var p fakeProof
	if err := json.Unmarshal([]byte(call.Text), &p); err != nil {
		return nil, feature.Invalid, "not a fake: " + err.Error()
	}
	if p.Signer.IsZero() {
		p.Signer = call.Peer
	}
	if f.verify != nil {
		if v := f.verify(call); v != feature.Good {
			return nil, v, "as the test wants it"
		}
	}
	return &feature.Proof{Signer: p.Signer, Key: p.Key, Relayed: p.Signer != call.Peer, Nonce: p.Nonce, Narrowed: p.Narrowed, Roles: p.Roles}, feature.Good, ""
}

func (f *fakeVerifier) Burn(_ context.Context, p *feature.Proof) (feature.Verdict, string) {
	if f.burn != nil {
		if v := f.burn(p); v != feature.Good {
			return v, "as the test wants it"
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.burned = append(f.burned, p.Nonce)
	return feature.Good, ""
}

func (f *fakeVerifier) Allow(p *feature.Proof) (feature.Verdict, string) {
	if f.allow == nil {
		return feature.Good, ""
	}
	return f.allow(p), "as the test wants it"
}

func (f *fakeVerifier) Standing(p *feature.Proof) (feature.Verdict, string) {
	if f.stands == nil {
		return feature.Good, ""
	}
	return f.stands(p), "as the test wants it"
}

func (f *fakeVerifier) Receipt(p *feature.Proof, response []byte) (string, error) {
	if f.receipt != nil {
		if err := f.receipt(); err != nil {
			return "", err
		}
	}
	return fakeReceipt(p.Nonce, response), nil
}

func fakeReceipt(nonce string, response []byte) string {
	sum := sha256.Sum256(response)
	return nonce + " " + hex.EncodeToString(sum[:])
}

// Client signs calls that say nothing of a proof themselves.
func (f *fakeVerifier) Client(feature.ClientEnv) (grpc.UnaryClientInterceptor, grpc.StreamClientInterceptor) {
	sign := func(ctx context.Context, method string) context.Context {
		md, _ := metadata.FromOutgoingContext(ctx)
		if f.silent.Load() || !f.env.Describe(method).Proof || len(md.Get("rolecall-proof")) > 0 {
			return ctx
		}
		return metadata.AppendToOutgoingContext(ctx, "rolecall-proof", fakeProof{Nonce: "own"}.text())
	}
	return func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
			return invoke(sign(ctx, method), method, req, reply, cc, opts...)
		}, func(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, open grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
			return open(sign(ctx, method), desc, cc, method, opts...)
		}
}

func (f *fakeProofs) seen() []*feature.SignedCall {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.calls
}

func (f *fakeProofs) used() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.burned
}

// fakeOnce is a feature for exactly_once that runs each request.
type fakeOnce struct {
	do    func(context.Context, *feature.OnceCall, func(context.Context) (proto.Message, error)) ([]byte, feature.Verdict, string, error)
	serve func([]feature.Method) error

	mu    sync.Mutex
	calls []*feature.OnceCall
}

func (f *fakeOnce) Annotations() []string { return []string{"exactly_once"} }

func (f *fakeOnce) Start(feature.Env) (feature.Running, error) { return f, nil }

func (f *fakeOnce) Close() error { return nil }

func (f *fakeOnce) Serve(methods []feature.Method) error {
	if f.serve == nil {
		return nil
	}
	return f.serve(methods)
}

func (f *fakeOnce) Do(ctx context.Context, call *feature.OnceCall, run func(context.Context) (proto.Message, error)) ([]byte, feature.Verdict, string, error) {
	f.mu.Lock()
	f.calls = append(f.calls, call)
	f.mu.Unlock()
	if f.do != nil {
		return f.do(ctx, call, run)
	}
	response, err := run(feature.InTransaction(ctx))
	if err != nil {
		return nil, feature.Good, "", err
	}
	bytes, err := proto.Marshal(response)
	return bytes, feature.Good, "", err
}

func (f *fakeOnce) seen() []*feature.OnceCall {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.calls
}

// fakeUsers is a feature for requires_user that takes a token for the name of a user.
type fakeUsers struct {
	verify func() feature.Verdict // nil: Good
	own    bool                   // users of the mesh's own tokens service
}

func (f *fakeUsers) Annotations() []string { return []string{"requires_user"} }

func (f *fakeUsers) Start(feature.Env) (feature.Running, error) { return f, nil }

func (f *fakeUsers) Close() error { return nil }

func (f *fakeUsers) Verify(token string) (*feature.User, feature.Verdict, string) {
	if f.verify != nil {
		if v := f.verify(); v != feature.Good {
			return nil, v, "as the test wants it"
		}
	}
	return &feature.User{Issuer: "https://login.example", Own: f.own, Subject: token, Token: token}, feature.Good, ""
}

func (f *fakeUsers) Standing(*feature.User) feature.Verdict { return feature.Good }

func (f *fakeUsers) LoginMethod() string { return "" }
