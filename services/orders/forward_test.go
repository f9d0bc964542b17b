package orders

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	ledgerv1 "example.com/rolecall/gen/ledger/v1"
	rolecallv1 "example.com/rolecall/gen/rolecall/v1"
	"example.com/rolecall/interceptors"
)

// answers is a connection to a ledger that answers with one after the other, and with the last from then on.
type answers struct {
	errs  []error
	calls int
}

func (a *answers) Invoke(_ context.Context, _ string, _, _ any, opts ...grpc.CallOption) error {
	err := a.errs[min(a.calls, len(a.errs)-1)]
	a.calls++
	for _, opt := range opts {
		if trailer, ok := opt.(grpc.TrailerCallOption); ok && err == nil {
			*trailer.TrailerAddr = metadata.Pairs("rolecall-receipt", "r")
		}
	}
	return err
}

func (*answers) NewStream(context.Context, *grpc.StreamDesc, string, ...grpc.CallOption) (grpc.ClientStream, error) {
	return nil, status.Error(codes.Unimplemented, "no streams")
}

// reason is a refusal of a guard.
func reason(t *testing.T, code codes.Code, reason string) error {
	t.Helper()
	s, err := status.New(code, "no").WithDetails(&errdetails.ErrorInfo{Domain: "rolecall", Reason: reason})
	if err != nil {
		t.Fatal(err)
	}
	return s.Err()
}

func TestHowOftenASignedPaymentIsPassedOn(t *testing.T) {
	t.Parallel()
	gone, unknown := status.Error(codes.Unavailable, "gone"), reason(t, codes.Unauthenticated, "PROOF_SIGNER_UNKNOWN")
	for name, tc := range map[string]struct {
		errs  []error
		calls int
		code  codes.Code
		took  time.Duration
	}{
		"ledger answers":                           {[]error{nil}, 1, codes.OK, 0},
		"ledger refuses":                           {[]error{status.Error(codes.FailedPrecondition, "no")}, 1, codes.FailedPrecondition, 0},
		"ledger was away":                          {[]error{gone, gone, nil}, 3, codes.OK, 300 * time.Millisecond},
		"ledger stays away":                        {[]error{gone}, 7, codes.Unavailable, 4700 * time.Millisecond},
		"ledger runs it elsewhere":                 {[]error{status.Error(codes.Aborted, "again")}, 7, codes.Aborted, 4700 * time.Millisecond},
		"ledger has a defect for a moment":         {[]error{status.Error(codes.Internal, "broken"), nil}, 2, codes.OK, firstWait},
		"the key is announced meanwhile":           {[]error{unknown, nil}, 2, codes.OK, firstWait},
		"the key is never announced":               {[]error{unknown}, 7, codes.Unauthenticated, 4700 * time.Millisecond},
		"ledger was away, and misses the key then": {[]error{gone, unknown, gone, unknown, nil}, 5, codes.OK, 1500 * time.Millisecond},
		"ledger has no answer about the key":       {[]error{reason(t, codes.Unavailable, "VERIFIER_UNAVAILABLE"), nil}, 2, codes.OK, firstWait},
		"the signer has signed too much of late":   {[]error{reason(t, codes.ResourceExhausted, "PROOF_WINDOW_FULL"), nil}, 2, codes.OK, firstWait},
		"ledger refuses the signer":                {[]error{reason(t, codes.PermissionDenied, "ROLE_REQUIRED")}, 1, codes.PermissionDenied, 0},
		"ledger finds the proof expired":           {[]error{gone, reason(t, codes.Unauthenticated, "PROOF_EXPIRED")}, 2, codes.Unauthenticated, firstWait},
		"ledger refuses the proof":                 {[]error{reason(t, codes.Unauthenticated, "PROOF_INVALID")}, 1, codes.Unauthenticated, 0},
		"ledger has burned the proof before":       {[]error{gone, reason(t, codes.Unauthenticated, "PROOF_REPLAYED")}, 2, codes.Unauthenticated, 100 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				ledger := &answers{errs: tc.errs}
				s := &Service{ledgerConn: ledger}
				began := time.Now() // by the clock of the bubble
				ctx, cancel := context.WithTimeout(t.Context(), peerTimeout)
				defer cancel()
				_, err := s.forward(ctx, &rolecallv1.SignedRequest{Method: ledgerv1.LedgerService_Transfer_FullMethodName, Proof: "a.b.c"}, longestWait)
				if took := time.Since(began); status.Code(err) != tc.code || ledger.calls != tc.calls || took != tc.took {
					t.Errorf("got %v after %d calls in %s, want %v after %d in %s", err, ledger.calls, took, tc.code, tc.calls, tc.took)
				}
			})
		})
	}
}

// refusing is a ledger that does not take the questions of orders.
type refusing struct {
	ledgerv1.LedgerServiceClient
	err error
}

func (r refusing) GetTransfer(context.Context, *ledgerv1.GetTransferRequest, ...grpc.CallOption) (*ledgerv1.GetTransferResponse, error) {
	return nil, r.err
}

// Only what ledger says of the signer has it that there will be no transfer. After anything else the order may have been paid.
func TestWhatARefusalOfTheQuestionSaysOfThePayment(t *testing.T) {
	t.Parallel()
	signed, own := payment{request: "r", signer: "spiffe://mesh.local/service/wallet"}, payment{request: "r"}
	for name, tc := range map[string]struct {
		payment payment
		err     error
		settled bool
	}{
		"the signer of a signed payment":   {signed, interceptors.InvalidField("signer", "must be a SPIFFE ID"), true},
		"the signer of one of orders' own": {own, interceptors.InvalidField("signer", "must be a SPIFFE ID"), false},
		"the request_id":                   {signed, interceptors.InvalidField("request_id", "must be a UUID"), false},
		"the user":                         {own, interceptors.InvalidField("user", "must be a user"), false},
		"no field":                         {signed, status.Error(codes.InvalidArgument, "no"), false},
		"a role that orders lacks":         {signed, reason(t, codes.PermissionDenied, "ROLE_REQUIRED"), false},
		"nothing":                          {signed, status.Error(codes.Unavailable, "gone"), false},
	} {
		s := &Service{ledger: refusing{err: tc.err}}
		got, err := s.settle(t.Context(), order{id: "1", username: "dave", payment: tc.payment}, false)
		if (err == nil) != tc.settled || got.transfer != nil {
			t.Errorf("%s: got %v, %v, want it settled: %v", name, got, err, tc.settled)
		}
	}
}
