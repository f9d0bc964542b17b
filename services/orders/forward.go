package orders

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	ledgerv1 "example.com/rolecall/gen/ledger/v1"
	rolecallv1 "example.com/rolecall/gen/rolecall/v1"
	"example.com/rolecall/interceptors/proof"
	"example.com/rolecall/internal/refusal"
)

// firstWait and longestWait bound the waits before a signed payment is passed on once more: 100 ms, and then twice as long each.
const firstWait, longestWait = 100 * time.Millisecond, 1600 * time.Millisecond

// passOn is the attempt with a signed payment: see forward.
func (s *Service) passOn(signed *rolecallv1.SignedRequest, longest time.Duration) attempt {
	return func(ctx context.Context, o order) (outcome, error) {
		answer, err := s.forward(ctx, signed, longest)
		if err != nil {
			return outcome{}, err
		}
		var made ledgerv1.TransferResponse
		if err := proto.Unmarshal(answer.GetResponse(), &made); err != nil {
			return outcome{}, fmt.Errorf("read the answer of ledger: %w", err)
		}
		return outcome{transfer: made.GetTransfer(), signed: answer}, o.isPaidBy(made.GetTransfer())
	}
}

// forward passes a signed payment on: unchanged, and on behalf of nobody. It does so again while ledger has not judged it, for as
// long as ctx lasts and after waits of at most longest; with zero it does so once. More than once does no harm: a proof that
// ledger has burned meanwhile is refused, and then it is asked what came of the payment.
func (s *Service) forward(ctx context.Context, signed *rolecallv1.SignedRequest, longest time.Duration) (*rolecallv1.SignedResponse, error) {
	for next := firstWait; ; next *= 2 {
		answer, err := proof.Forward(ctx, s.ledgerConn, signed)
		wait := min(next, longest)
		if end, ok := ctx.Deadline(); err == nil || wait == 0 || !undecided(err) || ok && time.Until(end) <= wait {
			return answer, err
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return nil, err
		}
	}
}

// undecided tells whether ledger has not judged a signed payment, or nobody knows whether it has, so that the same proof may
// still do. Among those are the lack of the signer's key, and a keys service that does not answer: the proof was not burned.
// Refusals that stand are those of the proof, of roles, and of the transfer itself.
func undecided(err error) bool {
	switch status.Code(err) {
	case codes.InvalidArgument, codes.NotFound, codes.AlreadyExists, codes.FailedPrecondition, codes.OutOfRange,
		codes.PermissionDenied, codes.Unimplemented:
		return false
	case codes.Unauthenticated:
		return missesKey(err)
	}
	return true
}

// missesKey tells whether ledger has refused a payment before it looked at it, because the signer's key was not to be had.
func missesKey(err error) bool {
	reason := refusal.Reason(err)
	return reason == "PROOF_SIGNER_UNKNOWN" || reason == "VERIFIER_UNAVAILABLE"
}
