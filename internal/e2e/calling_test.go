//go:build unix

package e2e_test

import (
	"context"
	"log/slog"
	"testing"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	ledgerv1 "example.com/rolecall/gen/ledger/v1"
	"example.com/rolecall/interceptors"
	"example.com/rolecall/interceptors/proof"
	"example.com/rolecall/internal/certfile"
)

// caller is an operator with the guard of a program of hers, which uses her files.
type caller struct {
	mesh   *runningMesh
	source *certfile.Source
	guard  *interceptors.Guard
	proofs *proof.Feature // of the guard
}

func (m *runningMesh) caller(t *testing.T, name string) *caller {
	t.Helper()
	o := operator(t, m.file, name)
	return m.callerWith(t, o.Cert, o.Key)
}

// callerWith is caller for the files of anybody.
func (m *runningMesh) callerWith(t *testing.T, cert, key string) *caller {
	t.Helper()
	source, err := certfile.Open(cert, key, m.file.Bundle)
	if err != nil {
		t.Fatalf("certificate %s: %v", cert, err)
	}
	var keyServer proof.Config
	if keys, ok := m.file.Service("keys"); ok {
		keyServer = proof.Config{Target: "dns:///" + keys.Address, Server: parseID(t, keys.ID)}
	}
	proofs := proof.New(keyServer)
	// The servers' audit is what these tests look at.
	guard, err := interceptors.New(source, nil, interceptors.Audit(slog.DiscardHandler), interceptors.With(proofs))
	if err != nil {
		t.Fatalf("guard with %s: %v", cert, err)
	}
	t.Cleanup(func() { _ = guard.Close() })
	return &caller{mesh: m, source: source, guard: guard, proofs: proofs}
}

// dial returns a connection to a service, which must prove its ID. The end of the test closes it.
func (c *caller) dial(t *testing.T, service string, opts ...grpc.DialOption) *grpc.ClientConn {
	t.Helper()
	s := c.mesh.service(t, service)
	conn, err := c.guard.NewClient(s.Address, parseID(t, s.ID), opts...)
	if err != nil {
		t.Fatalf("client of %s: %v", service, err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// ledger returns a client of the ledger over a connection of its own.
func (c *caller) ledger(t *testing.T) ledgerv1.LedgerServiceClient {
	t.Helper()
	return ledgerv1.NewLedgerServiceClient(c.dial(t, "ledger"))
}

func parseID(t *testing.T, text string) spiffeid.ID {
	t.Helper()
	id, err := spiffeid.FromString(text)
	if err != nil {
		t.Fatalf("mesh.json: %v", err)
	}
	return id
}

// euro is an amount in cents.
func euro(cents int64) *ledgerv1.Money { return &ledgerv1.Money{Currency: "EUR", MinorUnits: cents} }

// openAccounts opens the two sides of a payment: one that may go below zero, of the owner given ("": the caller), and one
// that may not.
func openAccounts(t *testing.T, ledger ledgerv1.LedgerServiceClient, owner string) (from, to string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), upTimeout) // some have just started the ledger
	defer cancel()
	open := func(owner string, negative bool) string {
		response, err := ledger.OpenAccount(ctx, &ledgerv1.OpenAccountRequest{Owner: owner, Currency: "EUR", AllowNegative: negative})
		if err != nil {
			t.Fatalf("open an account: %v", err)
		}
		return response.GetAccount().GetAccountId()
	}
	return open(owner, true), open("", false)
}

// pay moves money as the ledger's caller.
func pay(t *testing.T, ledger ledgerv1.LedgerServiceClient, from, to string, cents int64) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if _, err := ledger.Transfer(ctx, &ledgerv1.TransferRequest{FromAccount: from, ToAccount: to, Amount: euro(cents)}); err != nil {
		t.Fatalf("transfer: %v", err)
	}
}

// verdict is what a caller is told.
type verdict struct {
	Code   codes.Code
	Reason string // of the ErrorInfo of rolecall
	Role   string // in its metadata
}

func verdictOf(err error) verdict {
	v := verdict{Code: status.Code(err)}
	for _, detail := range status.Convert(err).Details() {
		if info, ok := detail.(*errdetails.ErrorInfo); ok && info.GetDomain() == "rolecall" {
			v.Reason, v.Role = info.GetReason(), info.GetMetadata()["role"]
		}
	}
	return v
}
