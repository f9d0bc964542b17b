//go:build unix

package e2e_test

import (
	"context"
	"errors"
	"log/slog"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	ledgerv1 "example.com/rolecall/gen/ledger/v1"
	"example.com/rolecall/interceptors"
	"example.com/rolecall/internal/certfile"
)

// patience bounds every wait for something that should take a moment.
const patience = 10 * time.Second

// dial returns a connection to a service of the mesh, made with an operator's files as any Go program would.
func (m *runningMesh) dial(t *testing.T, operator, service string) *grpc.ClientConn {
	t.Helper()
	o, ok := m.file.Operator(operator)
	if !ok {
		t.Fatalf("mesh.json has no operator %s", operator)
	}
	s, ok := m.file.Service(service)
	if !ok {
		t.Fatalf("mesh.json has no service %s", service)
	}
	source, err := certfile.Open(o.Cert, o.Key, m.file.Bundle)
	if err != nil {
		t.Fatal(err)
	}
	guard, err := interceptors.New(source, nil, interceptors.Audit(slog.DiscardHandler), interceptors.Logger(slog.New(slog.DiscardHandler)))
	if err != nil {
		t.Fatal(err)
	}
	conn, err := guard.NewClient("dns:///"+s.Address, spiffeid.RequireFromString(s.ID))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(conn.Close(), guard.Close()); err != nil {
			t.Errorf("close %s's connection: %v", operator, err)
		}
	})
	return conn
}

func (m *runningMesh) ledger(t *testing.T, operator string) ledgerv1.LedgerServiceClient {
	t.Helper()
	return ledgerv1.NewLedgerServiceClient(m.dial(t, operator, "ledger"))
}

// rolecall runs a command on this mesh and returns what it printed, on both outputs, and its exit code.
func (m *runningMesh) rolecall(t *testing.T, args ...string) (string, int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	words := append([]string{args[0], "--dir", m.dir}, args[1:]...)
	out, err := exec.CommandContext(ctx, m.program, words...).CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatalf("rolecall %s: %v", strings.Join(words, " "), err)
	}
	if exit != nil {
		return string(out), exit.ExitCode()
	}
	return string(out), 0
}

// accounts opens two accounts as alice and puts money into the second.
func (m *runningMesh) accounts(t *testing.T) (source, shop string) {
	t.Helper()
	alice := m.ledger(t, "alice")
	var opened [2]string
	for i := range opened {
		answer, err := alice.OpenAccount(t.Context(), &ledgerv1.OpenAccountRequest{Currency: "EUR", AllowNegative: i == 0})
		if err != nil {
			t.Fatalf("alice opens an account: %v", err)
		}
		opened[i] = answer.GetAccount().GetAccountId()
	}
	pay(t, alice, opened[0], opened[1])
	return opened[0], opened[1]
}

func pay(t *testing.T, client ledgerv1.LedgerServiceClient, from, to string) {
	t.Helper()
	_, err := client.Transfer(t.Context(), transferOf(from, to))
	if err != nil {
		t.Fatalf("transfer: %v", err)
	}
}

func transferOf(from, to string) *ledgerv1.TransferRequest {
	return &ledgerv1.TransferRequest{FromAccount: from, ToAccount: to, Amount: &ledgerv1.Money{Currency: "EUR", MinorUnits: 1250}}
}

// wantRefused checks the code and the reason of a refusal.
func wantRefused(t *testing.T, what string, err error, code codes.Code, reason string) {
	t.Helper()
	s := status.Convert(err)
	got := ""
	for _, detail := range s.Details() {
		if info, ok := detail.(*errdetails.ErrorInfo); ok {
			got = info.GetReason()
		}
	}
	if s.Code() != code || got != reason {
		t.Errorf("%s: %v with reason %q, want %s with %s", what, err, got, code, reason)
	}
}

// eventually waits until done reports nil, and logs how long it took.
func eventually(t *testing.T, what string, done func() error) {
	t.Helper()
	began := time.Now()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(patience)
	for {
		err := done()
		if err == nil {
			t.Logf("%s after %s", what, time.Since(began).Round(time.Millisecond))
			return
		}
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("%s: not within %s: %v", what, patience, err)
		}
	}
}
