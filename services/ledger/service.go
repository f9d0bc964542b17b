// Package ledger is the service that keeps double-entry books in integer minor units.
//
// Every transfer makes two entries that add up to zero, in one transaction with the balances of both accounts. An account
// never goes below zero unless it was opened that way. store.go reads, post.go is the one place that moves money, owner.go
// says whose it is, request.go settles requests whose answer was lost, watch.go streams entries, import.go takes over the
// books of another system.
package ledger

import (
	"cmp"
	"context"
	"embed"
	"errors"
	"log/slog"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	ledgerv1 "example.com/rolecall/gen/ledger/v1"
	"example.com/rolecall/interceptors"
	"example.com/rolecall/interceptors/exactlyonce"
	"example.com/rolecall/internal/field"
	"example.com/rolecall/internal/node"
	"example.com/rolecall/internal/page"
	"example.com/rolecall/internal/refusal"
	"example.com/rolecall/internal/store"
)

//go:embed migrations/*.sql
var migrations embed.FS

// adminRole lets its holder move money out of accounts of others.
const adminRole = "ledger.admin"

// pollInterval is how soon an entry of another replica is seen by those who watch the account.
const pollInterval = time.Second

// Service implements ledger.v1. Safe for concurrent use.
type Service struct {
	ledgerv1.UnimplementedLedgerServiceServer
	books    books
	requests *exactlyonce.Requests
	watchers *watchers
	stopping <-chan struct{}
	log      *slog.Logger
	now      func() time.Time
}

// Setup registers the service on a node.
func Setup(ctx context.Context, n *node.Node) error {
	db, err := n.OpenDB(ctx, migrations)
	if err != nil {
		return err
	}
	s := &Service{books: books{db}, requests: n.Requests(), watchers: newWatchers(), stopping: n.Stopping(), log: n.Log, now: time.Now}
	if db.Shared() {
		n.Go(func(ctx context.Context) { s.watchers.poll(ctx, pollInterval, s.books.counts, n.Log) })
	}
	ledgerv1.RegisterLedgerServiceServer(n.Server, s)
	return nil
}

// OpenAccount opens an account with a balance of zero. On behalf of a user who does not hold ledger.admin herself it is one of
// her own that does not go below zero; else PERMISSION_DENIED with the reason USER_ROLE_REQUIRED.
func (s *Service) OpenAccount(ctx context.Context, req *ledgerv1.OpenAccountRequest) (*ledgerv1.OpenAccountResponse, error) {
	by, err := payerOf(ctx)
	if err != nil {
		return nil, s.status(ctx, "open account", err)
	}
	owner := cmp.Or(req.GetOwner(), by.user, by.workload)
	if err := checkOwner(owner); err != nil {
		return nil, err
	}
	// The workload's ledger.admin is not lent to the user: without the role she gets an account of her own, with a bottom.
	if by.user != "" && !by.any && (owner != by.user || req.GetAllowNegative()) {
		if err := interceptors.CallerFrom(ctx).RequireUserRole(adminRole); err != nil {
			return nil, err
		}
	}
	if err := field.Currency("currency", req.GetCurrency()); err != nil {
		return nil, err
	}
	id, err := uuid.NewV7()
	if err != nil {
		return nil, s.status(ctx, "open account", err)
	}
	a := account{id: id.String(), owner: owner, currency: req.GetCurrency(), allowNegative: req.GetAllowNegative(), created: s.now()}
	if err := s.books.open(ctx, a); err != nil {
		return nil, s.status(ctx, "open account", err)
	}
	return &ledgerv1.OpenAccountResponse{Account: a.message()}, nil
}

// Transfer moves an amount from one account to another. It runs in the transaction that also keeps its answer.
func (s *Service) Transfer(ctx context.Context, req *ledgerv1.TransferRequest) (*ledgerv1.TransferResponse, error) {
	m, err := newMovement("", req)
	if err != nil {
		return nil, err
	}
	m.request, _ = exactlyonce.RequestID(req.GetRequestId()) // the guard has seen that it is one
	made, err := s.post(ctx, []movement{m})
	if err != nil {
		return nil, s.status(ctx, "transfer", err)
	}
	return &ledgerv1.TransferResponse{Transfer: made[0].message()}, nil
}

// post makes transfers for the caller, all or none, and tells those who watch the accounts once they are committed.
func (s *Service) post(ctx context.Context, moves []movement) ([]transfer, error) {
	by, err := payerOf(ctx)
	if err != nil {
		return nil, err
	}
	made, counts, err := s.books.post(ctx, by, moves, s.now())
	if err == nil && exactlyonce.Tx(ctx) != nil {
		exactlyonce.Afterwards(ctx, func(err error) { s.watchers.tell(counts, err) })
		return made, nil
	}
	s.watchers.tell(counts, err)
	return made, err
}

// GetTransfer reads one transfer, by its ID or by the request that made it. The transfer's own row knows the request, because
// the outcome that is kept for retries expires.
func (s *Service) GetTransfer(ctx context.Context, req *ledgerv1.GetTransferRequest) (*ledgerv1.GetTransferResponse, error) {
	t, err := s.named(ctx, req)
	if err != nil {
		return nil, s.status(ctx, "get transfer", err)
	}
	return &ledgerv1.GetTransferResponse{Transfer: t.message()}, nil
}

// named returns the transfer that a request names in one of two ways.
func (s *Service) named(ctx context.Context, req *ledgerv1.GetTransferRequest) (transfer, error) {
	if req.GetRequestId() == "" && req.GetSigner() == "" && req.GetUser() == "" {
		if err := field.ID("transfer_id", req.GetTransferId()); err != nil {
			return transfer{}, err
		}
		return s.books.transfer(ctx, req.GetTransferId())
	}
	if req.GetTransferId() != "" {
		return transfer{}, interceptors.InvalidField("transfer_id", "must be empty where a request is named")
	}
	r, err := s.requestOf(ctx, req)
	if err != nil {
		return transfer{}, err
	}
	return s.books.requested(ctx, r)
}

// GetBalance reads the balance of one account.
func (s *Service) GetBalance(ctx context.Context, req *ledgerv1.GetBalanceRequest) (*ledgerv1.GetBalanceResponse, error) {
	if err := field.ID("account_id", req.GetAccountId()); err != nil {
		return nil, err
	}
	a, err := s.books.account(ctx, req.GetAccountId())
	if err != nil {
		return nil, s.status(ctx, "get balance", err)
	}
	return &ledgerv1.GetBalanceResponse{Balance: money(a.currency, a.balance)}, nil
}

// ListEntries lists the entries of an account, oldest first.
func (s *Service) ListEntries(ctx context.Context, req *ledgerv1.ListEntriesRequest) (*ledgerv1.ListEntriesResponse, error) {
	if err := field.ID("account_id", req.GetAccountId()); err != nil {
		return nil, err
	}
	question := "ledger.ListEntries " + req.GetAccountId()
	size, cursor, err := page.Read(question, req.GetPageSize(), req.GetPageToken())
	if err != nil {
		return nil, err
	}
	var after int64
	if cursor != "" {
		if after, err = parseNumber(cursor); err != nil {
			return nil, page.Foreign()
		}
	}
	a, err := s.books.account(ctx, req.GetAccountId())
	if err != nil {
		return nil, s.status(ctx, "list entries", err)
	}
	found, err := s.books.entries(ctx, a, after, size+1)
	if err != nil {
		return nil, s.status(ctx, "list entries", err)
	}
	answer := &ledgerv1.ListEntriesResponse{}
	if len(found) > size {
		found = found[:size]
		answer.NextPageToken = page.Token(question, formatNumber(found[size-1].number))
	}
	for _, e := range found {
		answer.Entries = append(answer.Entries, e.message())
	}
	return answer, nil
}

// status turns what the books answered into what the caller is told.
func (s *Service) status(ctx context.Context, doing string, err error) error {
	var code codes.Code
	switch {
	case errors.Is(err, errNoAccount), errors.Is(err, errNoTransfer):
		code = codes.NotFound
	case errors.Is(err, errNotOwner):
		// The reason tells it from ROLE_REQUIRED: no binding repairs this one.
		return refusal.New(codes.PermissionDenied, refusal.AccountNotOwned, err.Error(), 0)
	case errors.Is(err, errBelowZero), errors.Is(err, errCurrency), errors.Is(err, errUnverified):
		code = codes.FailedPrecondition
	case errors.Is(err, errOverflow):
		code = codes.OutOfRange
	case errors.Is(err, errMade):
		code = codes.AlreadyExists
	default:
		return store.Status(ctx, s.log, doing, err)
	}
	return status.Error(code, err.Error()) // errors of the books are written for the caller
}
