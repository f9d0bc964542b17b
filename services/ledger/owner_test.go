package ledger_test

import (
	"context"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/testing/protocmp"

	ledgerv1 "example.com/rolecall/gen/ledger/v1"
	"example.com/rolecall/interceptors"
	"example.com/rolecall/interceptors/usertoken"
	"example.com/rolecall/internal/node"
	"example.com/rolecall/internal/node/nodetest"
	"example.com/rolecall/internal/store/storetest"
	"example.com/rolecall/rolecalltest"
	"example.com/rolecall/services/ledger"
)

// bank is a ledger that users call, those of the mesh and those of a company, through orders and through alice.
type bank struct {
	*books
	people  *rolecalltest.Users
	company *nodetest.Company
	audit   *nodetest.Audit
	orders  ledgerv1.LedgerServiceClient
}

func newBank(t *testing.T, url string) *bank {
	t.Helper()
	mesh := nodetest.New(t, roles)
	k := &bank{people: mesh.Users(t), company: nodetest.NewCompany(t), audit: &nodetest.Audit{}}
	accept := func(cfg *node.Config) { cfg.Issuers = []usertoken.Issuer{k.company.Issuer} }
	k.books = &books{mesh: mesh, service: mesh.Start(t, "ledger", url, ledger.Setup, accept, k.audit.Keep)}
	k.alice, k.orders = k.as(t, "/operator/alice"), k.as(t, "/service/orders")
	nodetest.Verifies(t, func() error {
		_, err := k.alice.GetTransfer(k.dave(t), &ledgerv1.GetTransferRequest{TransferId: "none"})
		return err
	})
	return k
}

// dave makes calls on behalf of the user dave, who holds the roles.
func (k *bank) dave(t *testing.T, roles ...string) context.Context {
	t.Helper()
	return interceptors.AsUser(nodetest.Context(t), k.people.Token("dave", roles...))
}

// stranger makes calls on behalf of the user dave of the company.
func (k *bank) stranger(t *testing.T, roles ...string) context.Context {
	t.Helper()
	return interceptors.AsUser(nodetest.Context(t), k.company.Token(t, "dave", roles...))
}

// account opens an account with money in it.
func (k *bank) account(t *testing.T, owner string, balance int64) string {
	t.Helper()
	id := k.openWith(t, &ledgerv1.OpenAccountRequest{Owner: owner, Currency: "EUR"})
	if balance > 0 {
		if _, err := k.alice.Transfer(nodetest.Context(t), transfer(k.source(t), id, balance)); err != nil {
			t.Fatalf("fill the account of %s: %v", owner, err)
		}
	}
	return id
}

func TestAUserPaysFromHerOwnAccount(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, url string) {
		k := newBank(t, url)
		own, shop := k.account(t, "user:dave", 100), k.account(t, "spiffe://mesh.local/service/shop", 0)
		made, err := k.orders.Transfer(k.dave(t), transfer(own, shop, 30))
		if err != nil {
			t.Fatalf("transfer: %v", err)
		}
		want := &ledgerv1.TransferRecord{
			FromAccount: own, ToAccount: shop, Amount: eur(30),
			Caller: "spiffe://mesh.local/service/orders", Signer: "spiffe://mesh.local/service/orders", User: "user:dave",
		}
		ignore := protocmp.IgnoreFields(&ledgerv1.TransferRecord{}, "transfer_id", "create_time")
		if diff := cmp.Diff(want, made.GetTransfer(), protocmp.Transform(), ignore); diff != "" {
			t.Errorf("transfer (-want +got):\n%s", diff)
		}
		read, err := k.alice.GetTransfer(nodetest.Context(t), &ledgerv1.GetTransferRequest{TransferId: made.GetTransfer().GetTransferId()})
		if err != nil {
			t.Fatalf("get transfer: %v", err)
		}
		if diff := cmp.Diff(made.GetTransfer(), read.GetTransfer(), protocmp.Transform()); diff != "" {
			t.Errorf("what was answered and what is read differ (-answered +read):\n%s", diff)
		}
		if got := k.balance(t, own); got != 70 {
			t.Errorf("balance: got %d, want 70", got)
		}
	})
}

// Neither lends the other anything: a workload spends nothing of its own for a user, and a user nothing that is the
// workload's to spend.
func TestWhoseAccountsPayWhenAWorkloadCallsOnBehalfOfAUser(t *testing.T) {
	t.Parallel()
	k := newBank(t, "")
	shop := k.account(t, "spiffe://mesh.local/service/shop", 0)
	daves, erins := k.account(t, "user:dave", 100), k.account(t, "user:erin", 100)
	orders := k.account(t, "spiffe://mesh.local/service/orders", 100)
	alices := k.account(t, "spiffe://mesh.local/operator/alice", 100)
	companys := k.account(t, "user:"+k.company.Issuer.URL+"#dave", 100)
	for _, tc := range []struct {
		name   string
		client ledgerv1.LedgerServiceClient
		ctx    context.Context
		from   string
		want   string // the reason of the refusal
	}{
		{"a user from her own account", k.orders, k.dave(t), daves, ""},
		{"a user from the account of another user", k.orders, k.dave(t), erins, "ACCOUNT_NOT_OWNED"},
		{"a user from the account of the workload that she comes through", k.orders, k.dave(t), orders, "ACCOUNT_NOT_OWNED"},
		{"the workload, for nobody, from its own account", k.orders, nodetest.Context(t), orders, ""},
		{"the workload, for nobody, from the account of a user", k.orders, nodetest.Context(t), daves, "ACCOUNT_NOT_OWNED"},
		{"a user through an administrator, from the account of another", k.alice, k.dave(t), erins, "ACCOUNT_NOT_OWNED"},
		{"a user through an administrator, from that one's account", k.alice, k.dave(t), alices, "ACCOUNT_NOT_OWNED"},
		{"a user who is administrator, through a workload that is not", k.orders, k.dave(t, "ledger.admin"), erins, "ACCOUNT_NOT_OWNED"},
		{"a user who is administrator, through an administrator", k.alice, k.dave(t, "ledger.admin"), erins, ""},
		{"a user of the company from her own account", k.orders, k.stranger(t), companys, ""},
		{"a user of the company from the account of one of the mesh with that name", k.orders, k.stranger(t), daves, "ACCOUNT_NOT_OWNED"},
		{"a user of the mesh from the account of one of the company with that name", k.orders, k.dave(t), companys, "ACCOUNT_NOT_OWNED"},
		{"a user through a workload without the role", k.as(t, "/operator/bob"), k.dave(t, "ledger.admin"), daves, "ROLE_REQUIRED"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			before := k.balance(t, tc.from)
			_, err := tc.client.Transfer(tc.ctx, transfer(tc.from, shop, 1))
			if nodetest.Reason(err) != tc.want || (err == nil) != (tc.want == "") {
				t.Errorf("got %v, want %q", err, tc.want)
			}
			moved := int64(0)
			if tc.want == "" {
				moved = 1
			}
			if after := k.balance(t, tc.from); before-after != moved {
				t.Errorf("the paying account went from %d to %d", before, after)
			}
		})
	}
}

func TestAnAccountIsOpenedForWhoAsks(t *testing.T) {
	t.Parallel()
	k := newBank(t, "")
	for name, tc := range map[string]struct {
		ctx         context.Context
		owner, want string
	}{
		"for nobody":                                 {nodetest.Context(t), "", "spiffe://mesh.local/operator/alice"},
		"for nobody, in the name of a user":          {nodetest.Context(t), "user:erin", "user:erin"},
		"on behalf of a user":                        {k.dave(t), "", "user:dave"},
		"on behalf of a user, who names herself":     {k.dave(t), "user:dave", "user:dave"},
		"on behalf of a company's user":              {k.stranger(t), "", "user:https://login.company.example#dave"},
		"on behalf of an administrator, for another": {k.dave(t, "ledger.admin"), "user:erin", "user:erin"},
	} {
		answer, err := k.alice.OpenAccount(tc.ctx, &ledgerv1.OpenAccountRequest{Owner: tc.owner, Currency: "EUR"})
		if err != nil || answer.GetAccount().GetOwner() != tc.want {
			t.Errorf("%s: %v, %v, want the owner %s", name, answer, err, tc.want)
		}
	}
	for name, owner := range map[string]string{
		"a user in upper case": "user:Dave", "a user of no issuer": "user:https://#dave", "a user without a name": "user:",
		"an issuer without https": "user:http://login.company.example#dave", "an issuer without a user": "user:https://login.company.example",
		"an issuer's user without the prefix": "https://login.company.example#dave",
		"an owner that is too long":           "user:https://login.company.example#" + strings.Repeat("x", 2048),
	} {
		t.Run(name, func(t *testing.T) {
			_, err := k.alice.OpenAccount(nodetest.Context(t), &ledgerv1.OpenAccountRequest{Owner: owner, Currency: "EUR"})
			wantInvalid(t, err, "owner")
		})
	}
}

// Attack: a user without a role makes money out of nothing through a workload that may.
func TestAWorkloadDoesNotLendAUserItsRightToOpenAnyAccount(t *testing.T) {
	t.Parallel()
	k := newBank(t, "")
	for name, tc := range map[string]struct {
		ctx    context.Context
		owner  string
		bottom bool // the account has none
		want   string
	}{
		"an account of her own without a bottom":                   {k.dave(t), "", true, "USER_ROLE_REQUIRED"},
		"an account of another user":                               {k.dave(t), "user:erin", false, "USER_ROLE_REQUIRED"},
		"an account of the workload":                               {k.dave(t), "spiffe://mesh.local/operator/alice", false, "USER_ROLE_REQUIRED"},
		"with another role":                                        {k.dave(t, "ledger.writer"), "", true, "USER_ROLE_REQUIRED"},
		"a company's user, in the name of the mesh's":              {k.stranger(t), "user:dave", false, "USER_ROLE_REQUIRED"},
		"as administrator, an account of her own without a bottom": {k.dave(t, "ledger.admin"), "", true, ""},
	} {
		_, err := k.alice.OpenAccount(tc.ctx, &ledgerv1.OpenAccountRequest{Owner: tc.owner, Currency: "EUR", AllowNegative: tc.bottom})
		if nodetest.Reason(err) != tc.want || (err == nil) != (tc.want == "") {
			t.Errorf("%s: got %v, want %q", name, err, tc.want)
		}
	}
}

// An import is many transfers: on behalf of a user it takes what one takes.
func TestAnImportOnBehalfOfAUserNeedsHerToBeAdministratorToo(t *testing.T) {
	t.Parallel()
	k := newBank(t, "")
	erins, shop := k.account(t, "user:erin", 100), k.account(t, "spiffe://mesh.local/service/shop", 0)
	for name, tc := range map[string]struct {
		ctx  context.Context
		want codes.Code
	}{
		"a user who is none": {k.dave(t, "ledger.writer"), codes.PermissionDenied},
		"one who is":         {k.dave(t, "ledger.admin"), codes.OK},
	} {
		stream, err := k.alice.ImportEntries(tc.ctx)
		if err != nil {
			t.Fatal(err)
		}
		_ = stream.Send(&ledgerv1.ImportEntriesRequest{FromAccount: erins, ToAccount: shop, Amount: eur(1)}) // a refusal shows below
		if _, err := stream.CloseAndRecv(); status.Code(err) != tc.want {
			t.Errorf("%s: got %v, want %v", name, err, tc.want)
		}
	}
}

func TestTheAuditRecordOfATransferNamesTheWorkloadAndTheUser(t *testing.T) {
	t.Parallel()
	k := newBank(t, "")
	own, shop := k.account(t, "user:dave", 100), k.account(t, "spiffe://mesh.local/service/shop", 0)
	if _, err := k.orders.Transfer(k.dave(t), transfer(own, shop, 30)); err != nil {
		t.Fatal(err)
	}
	record := k.audit.Wait(t, "the transfer", func(r map[string]any) bool {
		return r["method"] == "/ledger.v1.LedgerService/Transfer" && r["user"] != nil
	})
	if record["workload"] != "spiffe://mesh.local/service/orders" || record["user"] != "dave" || record["verdict"] != "allowed" {
		t.Errorf("record %v, want the workload orders and the user dave", record)
	}
	if strings.Contains(k.audit.Text(), ".eyJ") {
		t.Error("a token is in the audit records")
	}
}

// A ledger that was not told of the service tokens cannot know on whose behalf a call is made. It does not take it for one
// of the workload's own.
func TestALedgerThatVerifiesNoUsersMovesNothingForOne(t *testing.T) {
	t.Parallel()
	mesh := nodetest.New(t, roles)
	b := &books{mesh: mesh, service: mesh.Start(t, "ledger", "", ledger.Setup, func(cfg *node.Config) { cfg.Tokens = nil })}
	b.alice = b.as(t, "/operator/alice")
	own, shop := b.open(t, "/service/orders", 100), b.open(t, "/service/shop", 0)
	orders := b.as(t, "/service/orders")
	asUser := interceptors.AsUser(nodetest.Context(t), "not.verified.here")
	if _, err := orders.Transfer(asUser, transfer(own, shop, 1)); status.Code(err) != codes.FailedPrecondition || !strings.Contains(err.Error(), "peer tokens") {
		t.Errorf("on behalf of a user: got %v, want FailedPrecondition that names the peer tokens", err)
	}
	if _, err := b.alice.OpenAccount(asUser, &ledgerv1.OpenAccountRequest{Currency: "EUR"}); status.Code(err) != codes.FailedPrecondition {
		t.Errorf("account on behalf of a user: got %v, want FailedPrecondition", err)
	}
	if _, err := orders.Transfer(nodetest.Context(t), transfer(own, shop, 1)); err != nil {
		t.Errorf("for nobody: %v", err)
	}
}
