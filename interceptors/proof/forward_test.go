package proof_test

import (
	"context"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"

	rolecallv1 "example.com/rolecall/gen/rolecall/v1"
	"example.com/rolecall/interceptors/proof"
)

func TestARelayLendsItsIdentityToNothingThatNobodyVerifies(t *testing.T) {
	t.Parallel()
	m := newMesh(t)
	signer, via := m.workload(payer).announced(), m.workload(relay)
	for _, c := range []struct {
		name    string
		conn    *grpc.ClientConn
		request *rolecallv1.SignedRequest
		code    codes.Code
		detail  string
	}{
		{"a method without proof, and a text that is none", via.conn, &rolecallv1.SignedRequest{Method: look, Request: dave, Proof: "nothing"}, codes.InvalidArgument, "not passed on"},
		{"a method without proof, well signed", via.conn, signer.signed(look, 1), codes.InvalidArgument, "not passed on"},
		{"a method that no descriptor describes", via.conn, signer.signed("/bank.v1.Bank/New", 1), codes.InvalidArgument, "not passed on"},
		{"a client whose guard has no proof feature", m.bare(m.ca.Source(relay)), signer.signed(pay, 1), codes.Internal, "no proof feature"},
	} {
		// A server that is reached answers with something else.
		before := strings.Count(m.audit.String(), "\n")
		_, err := proof.Forward(timeout(t), c.conn, c.request)
		if codeOf(err) != c.code || !strings.Contains(err.Error(), c.detail) {
			t.Errorf("%s: got %v, want %s with %q", c.name, err, c.code, c.detail)
		}
		if n := strings.Count(m.audit.String(), "\n") - before; n != 0 {
			t.Errorf("%s: the server has %d records of it, want nothing sent", c.name, n)
		}
	}
	if n := m.bank.reached.Load(); n != 0 {
		t.Errorf("a handler was reached %d times", n)
	}
}

func TestARelaysInterceptorDoesNotTurnARequestIntoItsOwn(t *testing.T) {
	t.Parallel()
	m := newMesh(t)
	signer, via := m.workload(payer).announced(), m.workload(relay)
	for name, change := range map[string]func([]grpc.CallOption) []grpc.CallOption{
		"adds credentials": func(opts []grpc.CallOption) []grpc.CallOption {
			return append(opts, grpc.PerRPCCredentials(given{"authorization": "Bearer of.the.relay"}))
		},
		"loses the options": func([]grpc.CallOption) []grpc.CallOption { return nil },
	} {
		conn := via.client(grpc.WithChainUnaryInterceptor(
			func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
				return invoke(ctx, method, req, reply, cc, change(opts)...)
			}))
		before := m.bank.reached.Load()
		_, err := proof.Forward(timeout(t), conn, signer.signed(pay, 1))
		if name == "adds credentials" {
			must(t, err)
			m.audit.find(t, map[string]any{"verdict": "allowed", "workload": m.ca.ID(relay).String(), "signer": m.ca.ID(payer).String()})
		} else if codeOf(err) != codes.Internal || m.bank.reached.Load() != before {
			t.Errorf("%s: got %v, want INTERNAL before anything is sent", name, err)
		}
	}
	if strings.Contains(m.audit.String(), `"signer":"`+m.ca.ID(relay).String()) {
		t.Errorf("the relay has signed what it passes on:\n%s", m.audit.String())
	}
	if _, err := via.pay(metadata.AppendToOutgoingContext(timeout(t), "rolecall-proof", "of another"), pay); err != nil {
		t.Errorf("with a proof of another call: %v", err)
	}
}
