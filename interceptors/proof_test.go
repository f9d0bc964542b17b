package interceptors_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/encoding/gzip"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	ledgerv1 "example.com/rolecall/gen/ledger/v1"
	"example.com/rolecall/interceptors"
	"example.com/rolecall/interceptors/internal/feature"
	exact "example.com/rolecall/interceptors/internal/wire"
)

func TestAMethodThatWantsAProofIsNotReachedWithoutAGoodOne(t *testing.T) {
	t.Parallel()
	verdict := func(v feature.Verdict) func(*mesh) {
		return func(m *mesh) { m.proofs.verify = func(*feature.SignedCall) feature.Verdict { return v } }
	}
	one := func(ctx context.Context) context.Context { return proving(ctx, fakeProof{Nonce: "n"}) }
	for _, c := range []struct {
		name    string
		prepare func(*mesh)
		call    func(context.Context) context.Context
		code    codes.Code
		reason  string
		retry   bool // the status says when to try again
	}{
		{"no proof", nil, func(ctx context.Context) context.Context { return ctx }, codes.Unauthenticated, "PROOF_REQUIRED", false},
		{"the metadata twice", nil, func(ctx context.Context) context.Context { return proving(ctx, fakeProof{}, fakeProof{}) }, codes.Unauthenticated, "PROOF_INVALID", false},
		{"a proof of 5 KB", nil, func(ctx context.Context) context.Context {
			return proving(ctx, fakeProof{Nonce: strings.Repeat("n", 5<<10)})
		}, codes.Unauthenticated, "PROOF_INVALID", false},
		{"two access tokens", nil, func(ctx context.Context) context.Context {
			return metadata.AppendToOutgoingContext(one(ctx), "authorization", "Bearer a", "authorization", "Bearer b")
		}, codes.Unauthenticated, "PROOF_INVALID", false},
		{"authorization that is no token", nil, func(ctx context.Context) context.Context {
			return metadata.AppendToOutgoingContext(one(ctx), "authorization", "Basic YTpi")
		}, codes.Unauthenticated, "PROOF_INVALID", false},
		{"not valid", verdict(feature.Invalid), one, codes.Unauthenticated, "PROOF_INVALID", false},
		{"expired", verdict(feature.Expired), one, codes.Unauthenticated, "PROOF_EXPIRED", true},
		{"of a signer whose key nobody knows", verdict(feature.Unknown), one, codes.Unauthenticated, "PROOF_SIGNER_UNKNOWN", false},
		{"no verifier", verdict(feature.Unavailable), one, codes.Unavailable, "VERIFIER_UNAVAILABLE", true},
		{"a verdict that is not about proofs", verdict(feature.Revoked), one, codes.Internal, "INTERNAL", false},
		{"a verdict of the future", verdict(200), one, codes.Internal, "INTERNAL", false},
		{"used before", func(m *mesh) { m.proofs.burn = func(*feature.Proof) feature.Verdict { return feature.Replayed } }, one, codes.Unauthenticated, "PROOF_REPLAYED", false},
		{"the window is full", func(m *mesh) { m.proofs.burn = func(*feature.Proof) feature.Verdict { return feature.Full } }, one, codes.ResourceExhausted, "PROOF_WINDOW_FULL", true},
		{"no window", func(m *mesh) { m.proofs.burn = func(*feature.Proof) feature.Verdict { return feature.Unavailable } }, one, codes.Unavailable, "VERIFIER_UNAVAILABLE", true},
		{"the verifier panics", func(m *mesh) { m.proofs.verify = func(*feature.SignedCall) feature.Verdict { panic("secret 4711") } }, one, codes.Internal, "INTERNAL", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			from, meter := newMeter()
			m, s := newTill(t, func(c *meshConfig) { c.options = []interceptors.Option{meter} })
			if c.prepare != nil {
				c.prepare(m)
			}
			for method, conn := range map[string]*grpc.ClientConn{pay: m.unsigned(clerk), follow: m.unsigned(clerk)} {
				var err error
				if method == follow {
					_, err = followOnce(c.call(timeout(t)), conn)
				} else {
					err = ask(c.call(timeout(t)), conn, method)
				}
				refused(t, err, c.code, c.reason)
				if retry := retryDelay(err) > 0; retry != c.retry {
					t.Errorf("%s: the status asks to try again: %v, want %v", method, retry, c.retry)
				}
				m.audit.find(t, map[string]any{"event": "call", "verdict": "denied", "reason": c.reason, "method": method})
				eventually(t, "a count of it", func() bool { return collect(t, from)["rolecall.decisions method="+method+",reason="+c.reason] == 1 })
			}
			if used := m.proofs.used(); len(used) > 0 || s.reached.Load() > 0 {
				t.Errorf("used up %v, the handlers were reached %d times, want nothing of both", used, s.reached.Load())
			}
			if strings.Contains(m.audit.String(), `"verdict":"allowed"`) {
				t.Errorf("a call is on record as allowed:\n%s", m.audit.String())
			}
		})
	}
}

// unsigned returns a client that adds no proofs by itself.
func (m *mesh) unsigned(path string) *grpc.ClientConn {
	m.t.Helper()
	proofs := &fakeProofs{}
	proofs.silent.Store(true)
	guard := m.guardWith(m.ca.Source(path), nil, interceptors.With(proofs))
	conn, err := guard.NewClient(m.addr, m.ca.ID(server))
	must(m.t, err)
	m.t.Cleanup(func() { _ = conn.Close() })
	return conn
}

func retryDelay(err error) time.Duration {
	for _, detail := range status.Convert(err).Details() {
		if info, ok := detail.(*errdetails.RetryInfo); ok {
			return info.GetRetryDelay().AsDuration()
		}
	}
	return 0
}

func TestAProofIsAboutTheExactBytesOfTheRequest(t *testing.T) {
	t.Parallel()
	// The fields in another order than any encoder writes them, one twice, and one that this side does not know.
	var odd []byte
	odd = protowire.AppendTag(odd, 2, protowire.BytesType)
	odd = protowire.AppendString(odd, "EUR")
	odd = protowire.AppendTag(odd, 1, protowire.BytesType)
	odd = protowire.AppendString(odd, "bob")
	odd = protowire.AppendTag(odd, 1, protowire.BytesType)
	odd = protowire.AppendString(odd, "alice")
	odd = protowire.AppendTag(odd, 4711, protowire.VarintType)
	odd = protowire.AppendVarint(odd, 1)
	for _, c := range []struct {
		name string
		body []byte
		opts []grpc.CallOption
	}{
		{"as it is", odd, nil},
		{"compressed", odd, []grpc.CallOption{grpc.UseCompressor(gzip.Name)}},
		{"empty", nil, nil},
		{"of 1 MB, compressed", protowire.AppendBytes(protowire.AppendTag(nil, 4711, protowire.BytesType), bytes.Repeat([]byte{7}, 1<<20)), []grpc.CallOption{grpc.UseCompressor(gzip.Name)}},
	} {
		for _, method := range []string{pay, payOnce, follow} {
			t.Run(c.name+" "+method, func(t *testing.T) {
				t.Parallel()
				m, s := newTill(t)
				want := &ledgerv1.OpenAccountRequest{}
				must(t, proto.Unmarshal(c.body, want))
				s.handle = func(_ context.Context, got *ledgerv1.OpenAccountRequest) (any, error) {
					if !proto.Equal(got, want) {
						t.Errorf("the handler got %v, want %v", got, want)
					}
					return &ledgerv1.OpenAccountResponse{}, nil
				}
				source := m.ca.Source(clerk)
				conn := m.dialAs(source)
				ctx := interceptors.Narrow(metadata.AppendToOutgoingContext(timeout(t), "authorization", "Bearer token", "x-other", "y"), "till.clerk")
				opts := append(c.opts, grpc.ForceCodecV2(exact.Codec()))
				if method == follow {
					stream, err := conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, method, opts...)
					must(t, err)
					must(t, stream.SendMsg(&exact.Raw{Bytes: c.body}))
					must(t, stream.CloseSend())
					must(t, stream.RecvMsg(&ledgerv1.OpenAccountResponse{}))
				} else {
					must(t, conn.Invoke(ctx, method, &exact.Raw{Bytes: c.body}, &ledgerv1.OpenAccountResponse{}, opts...))
				}
				got := m.proofs.seen()[0]
				if !bytes.Equal(got.Body, c.body) {
					t.Errorf("the proof is verified over %d bytes %.40x, want %d bytes %.40x", len(got.Body), got.Body, len(c.body), c.body)
				}
				if key, ok := leafOf(t, source).PublicKey.(*ecdsa.PublicKey); !ok || !key.Equal(got.PeerKey) {
					t.Errorf("the peer's key is %v, want that of its certificate", got.PeerKey)
				}
				if got.Method != method || got.Peer != m.ca.ID(clerk) || got.Token != "token" || !got.Narrowed || !slices.Equal(got.Subset, []string{"till.clerk"}) ||
					!slices.Equal(got.Metadata["x-other"], []string{"y"}) || got.Text != (fakeProof{Nonce: "own"}).text() {
					t.Errorf("the rest of the call is %+v", got)
				}
			})
		}
	}
}

func TestTheReceiptIsOverTheBytesOfTheAnswer(t *testing.T) {
	t.Parallel()
	answer := &ledgerv1.OpenAccountResponse{Account: &ledgerv1.Account{AccountId: strings.Repeat("a", 1000)}}
	answer.ProtoReflect().SetUnknown(protowire.AppendVarint(protowire.AppendTag(nil, 4711, protowire.VarintType), 1))
	for _, c := range []struct {
		name   string
		answer any
		opts   []grpc.CallOption
	}{
		{"plain", answer, nil},
		{"compressed", answer, []grpc.CallOption{grpc.UseCompressor(gzip.Name)}},
		{"empty", &ledgerv1.OpenAccountResponse{}, nil},
		{"a nil message", (*ledgerv1.OpenAccountResponse)(nil), nil},
	} {
		for _, method := range []string{pay, payOnce, open} {
			t.Run(c.name+" "+method, func(t *testing.T) {
				t.Parallel()
				m, s := newTill(t)
				s.handle = func(context.Context, *ledgerv1.OpenAccountRequest) (any, error) { return c.answer, nil }
				want, err := proto.Marshal(c.answer.(proto.Message))
				must(t, err)
				var trailer metadata.MD
				got := &exact.Captured{}
				must(t, m.dial(clerk).Invoke(timeout(t), method, &ledgerv1.OpenAccountRequest{}, got, append(c.opts, grpc.ForceCodecV2(exact.Codec()), grpc.Trailer(&trailer))...))
				if !bytes.Equal(got.Bytes, want) {
					t.Errorf("got %x, want %x", got.Bytes, want)
				}
				receipts := []string{fakeReceipt("own", want)}
				if method == open {
					receipts = nil // no proof, no receipt
				}
				if !slices.Equal(trailer["rolecall-receipt"], receipts) {
					t.Errorf("receipts %q, want %q", trailer["rolecall-receipt"], receipts)
				}
			})
		}
	}
}

func TestAnAnswerThatCannotBeSignedOrSentIsAnError(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name    string
		prepare func(*mesh, *till)
		code    codes.Code
	}{
		{"no receipt", func(m *mesh, _ *till) { m.proofs.receipt = func() error { return errors.New("no key") } }, codes.Unavailable},
		{"a panic over the receipt", func(m *mesh, _ *till) { m.proofs.receipt = func() error { panic("secret 4711") } }, codes.Internal},
		{"no message", func(_ *mesh, s *till) { s.handle = answering(nil) }, codes.Internal},
		{"an answer that is no message", func(_ *mesh, s *till) { s.handle = answering("secret 4711") }, codes.Internal},
		{"a handler that neither reads the request nor asks interceptors", func(_ *mesh, s *till) { s.bypass = true }, codes.Internal},
		{"a handler that panics", func(_ *mesh, s *till) {
			s.handle = func(context.Context, *ledgerv1.OpenAccountRequest) (any, error) { panic("secret 4711") }
		}, codes.Internal},
	} {
		for _, method := range []string{pay, payOnce} {
			t.Run(c.name+" "+method, func(t *testing.T) {
				t.Parallel()
				m, s := newTill(t)
				c.prepare(m, s)
				err := ask(timeout(t), m.dial(clerk), method)
				if status.Code(err) != c.code || strings.Contains(err.Error(), "4711") {
					t.Errorf("got %v, want code %s and nothing of what went wrong", err, c.code)
				}
				eventually(t, "the cause in the log", func() bool { return strings.Contains(m.log.String(), method) })
			})
		}
	}
}

func answering(reply any) func(context.Context, *ledgerv1.OpenAccountRequest) (any, error) {
	return func(context.Context, *ledgerv1.OpenAccountRequest) (any, error) { return reply, nil }
}
