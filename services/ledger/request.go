package ledger

import (
	"cmp"
	"context"
	"errors"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	ledgerv1 "example.com/rolecall/gen/ledger/v1"
	"example.com/rolecall/interceptors"
	"example.com/rolecall/interceptors/exactlyonce"
	"example.com/rolecall/internal/refusal"
)

// request names a TransferRequest. Two callers, signers or users may choose the same request_id.
type request struct {
	caller, signer, user string // as in a transfer
	id                   string // request_id
}

// namedRequest is a GetTransferRequest or a CancelTransferRequest.
type namedRequest interface {
	GetRequestId() string
	GetSigner() string
	GetUser() string
}

// requestOf returns the request that the caller names: one that it sent itself, whoever signed it. Those of others are out of
// its reach, and on behalf of a user those of other users are, unless that user holds ledger.admin: a gateway sends the
// requests of many.
func (s *Service) requestOf(ctx context.Context, req namedRequest) (request, error) {
	by, err := payerOf(ctx)
	if err != nil {
		return request{}, s.status(ctx, "find the request", err)
	}
	id, ok := exactlyonce.RequestID(req.GetRequestId())
	if !ok {
		return request{}, interceptors.InvalidField("request_id", "must be the UUID of a request")
	}
	r := request{caller: by.workload, signer: cmp.Or(req.GetSigner(), by.workload), user: cmp.Or(req.GetUser(), by.user), id: id}
	if _, err := spiffeid.FromString(r.signer); err != nil || len(r.signer) > maxOwner {
		return request{}, interceptors.InvalidField("signer", "must be empty, or a SPIFFE ID such as spiffe://mesh.local/service/shop")
	}
	if r.user != "" && !isUser(r.user) {
		return request{}, interceptors.InvalidField("user", "must be empty, or a user such as user:alice")
	}
	if by.user != "" && r.user != by.user {
		return r, interceptors.CallerFrom(ctx).RequireUserRole(adminRole)
	}
	return r, nil
}

// CancelTransfer sees that a request never takes effect, unless it has.
//
// The refusal is kept as long as any outcome (exactlyonce.Config.Keep, a day). It need not be kept for longer: a request that
// is still on its way is refused for its proof, which lives for a minute at most.
func (s *Service) CancelTransfer(ctx context.Context, req *ledgerv1.CancelTransferRequest) (*ledgerv1.CancelTransferResponse, error) {
	r, err := s.requestOf(ctx, req)
	if err != nil {
		return nil, err
	}
	// Not to be stored as cancelled: where the outcome has expired, the request would be told so when it is repeated.
	if t, err := s.books.requested(ctx, r); !errors.Is(err, errNoTransfer) {
		return s.made(ctx, t, err)
	}
	key := exactlyonce.Key{
		Method: ledgerv1.LedgerService_Transfer_FullMethodName, Peer: r.caller, Signer: r.signer, User: r.user, RequestID: r.id,
	}
	if _, err := s.requests.Cancel(ctx, key, cancelled); err != nil {
		return nil, err
	}
	// From here on the request has made its transfer, since the first look, or never will.
	t, err := s.books.requested(ctx, r)
	if errors.Is(err, errNoTransfer) {
		return &ledgerv1.CancelTransferResponse{}, nil
	}
	return s.made(ctx, t, err)
}

// made answers a cancellation that comes too late.
func (s *Service) made(ctx context.Context, t transfer, err error) (*ledgerv1.CancelTransferResponse, error) {
	if err != nil {
		return nil, s.status(ctx, "cancel transfer", err)
	}
	return &ledgerv1.CancelTransferResponse{Transfer: t.message()}, nil
}

// cancelled is what a request is answered that arrives after it was cancelled.
var cancelled = status.Convert(refusal.New(codes.FailedPrecondition, refusal.TransferCancelled,
	"the transfer was cancelled before the request arrived: send a new request", 0))
