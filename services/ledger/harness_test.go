package ledger_test

import (
	"slices"
	"testing"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	ledgerv1 "example.com/rolecall/gen/ledger/v1"
	"example.com/rolecall/internal/leaktest"
	"example.com/rolecall/internal/node/nodetest"
	"example.com/rolecall/internal/store/storetest"
	"example.com/rolecall/rolecalltest"
	"example.com/rolecall/services/ledger"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

const roles = `
trustDomain: mesh.local
bindings:
  - role: ledger.admin
    members: [spiffe://mesh.local/operator/alice, spiffe://mesh.local/operator/anna]
  - role: ledger.reader
    members: [spiffe://mesh.local/operator/bob]
  - role: ledger.writer
    members: [spiffe://mesh.local/service/orders, spiffe://mesh.local/service/shop]
`

// books is a ledger that runs, and a client of alice, its administrator.
type books struct {
	mesh    *nodetest.Mesh
	service *nodetest.Service
	alice   ledgerv1.LedgerServiceClient
	keys    *rolecalltest.Keys // nil until a test needs it
}

func newBooks(t *testing.T, url string) *books {
	t.Helper()
	mesh := nodetest.New(t, roles)
	b := &books{mesh: mesh, service: mesh.Start(t, "ledger", url, ledger.Setup)}
	b.alice = b.as(t, "/operator/alice")
	return b
}

// each runs a test against a ledger on every kind of database.
func each(t *testing.T, test func(t *testing.T, b *books)) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, url string) { test(t, newBooks(t, url)) })
}

func (b *books) as(t *testing.T, path string) ledgerv1.LedgerServiceClient {
	t.Helper()
	return ledgerv1.NewLedgerServiceClient(b.mesh.Client(t, path, b.service))
}

// open opens an account in EUR for a workload and puts money into it.
func (b *books) open(t *testing.T, owner string, balance int64) string {
	t.Helper()
	ctx := nodetest.Context(t)
	account := b.openWith(t, &ledgerv1.OpenAccountRequest{Owner: "spiffe://mesh.local" + owner, Currency: "EUR"})
	if balance > 0 {
		source := b.source(t)
		if _, err := b.alice.Transfer(ctx, transfer(source, account, balance)); err != nil {
			t.Fatalf("fill account: %v", err)
		}
	}
	return account
}

// source opens an account that may go below zero.
func (b *books) source(t *testing.T) string {
	t.Helper()
	return b.openWith(t, &ledgerv1.OpenAccountRequest{Currency: "EUR", AllowNegative: true})
}

func (b *books) openWith(t *testing.T, req *ledgerv1.OpenAccountRequest) string {
	t.Helper()
	answer, err := b.alice.OpenAccount(nodetest.Context(t), req)
	if err != nil {
		t.Fatalf("open account: %v", err)
	}
	return answer.GetAccount().GetAccountId()
}

func (b *books) balance(t *testing.T, account string) int64 {
	t.Helper()
	answer, err := b.alice.GetBalance(nodetest.Context(t), &ledgerv1.GetBalanceRequest{AccountId: account})
	if err != nil {
		t.Fatalf("balance of %s: %v", account, err)
	}
	return answer.GetBalance().GetMinorUnits()
}

// entries reads all entries of an account in pages of the given size.
func (b *books) entries(t *testing.T, account string, size int32) (all []*ledgerv1.Entry) {
	t.Helper()
	for token := ""; ; {
		answer, err := b.alice.ListEntries(nodetest.Context(t), &ledgerv1.ListEntriesRequest{AccountId: account, PageSize: size, PageToken: token})
		if err != nil {
			t.Fatalf("entries of %s: %v", account, err)
		}
		all = append(all, answer.GetEntries()...)
		if token = answer.GetNextPageToken(); token == "" {
			return all
		}
	}
}

func transfer(from, to string, minorUnits int64) *ledgerv1.TransferRequest {
	return &ledgerv1.TransferRequest{FromAccount: from, ToAccount: to, Amount: eur(minorUnits)}
}

func eur(minorUnits int64) *ledgerv1.Money {
	return &ledgerv1.Money{Currency: "EUR", MinorUnits: minorUnits}
}

// wantInvalid fails unless err is about exactly this field.
func wantInvalid(t *testing.T, err error, field string) {
	t.Helper()
	var fields []string
	for _, detail := range status.Convert(err).Details() {
		if bad, ok := detail.(*errdetails.BadRequest); ok {
			for _, v := range bad.GetFieldViolations() {
				fields = append(fields, v.GetField())
			}
		}
	}
	if status.Code(err) != codes.InvalidArgument || !slices.Equal(fields, []string{field}) {
		t.Errorf("got %v about the fields %v, want InvalidArgument about %s", err, fields, field)
	}
}
