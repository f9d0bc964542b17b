package interceptors_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	ledgerv1 "example.com/rolecall/gen/ledger/v1"
	"example.com/rolecall/interceptors"
)

func TestTheHandlerSeesTheCaller(t *testing.T) {
	t.Parallel()
	m := newMesh(t)
	var got interceptors.Caller
	var rolesHeld []string
	m.ledger.getBalance = func(ctx context.Context) error {
		got = interceptors.CallerFrom(ctx)
		rolesHeld = got.Roles()
		if !got.HasRole("ledger.reader") || got.HasRole("ledger.admin") || got.HasRole("no.such") {
			t.Error("HasRole is wrong")
		}
		return nil
	}
	must(t, balance(t, m.dial(writer)))
	if got.ID().String() != "spiffe://mesh.local/service/writer" || !slices.Equal(rolesHeld, []string{"ledger.reader", "ledger.writer"}) {
		t.Errorf("got caller %s with roles %v", got.ID(), rolesHeld)
	}
	_, err := ledgerv1.NewLedgerServiceClient(m.dial(writer)).GetBalance(interceptors.Narrow(timeout(t), "ledger.reader"), &ledgerv1.GetBalanceRequest{})
	must(t, err)
	if !slices.Equal(rolesHeld, []string{"ledger.reader"}) {
		t.Errorf("after narrowing the handler sees %v", rolesHeld)
	}
}

func TestRequireInAHandler(t *testing.T) {
	t.Parallel()
	m := newMesh(t)
	m.ledger.getBalance = func(ctx context.Context) error { return interceptors.CallerFrom(ctx).Require("ledger.writer") }
	must(t, balance(t, m.dial(writer)))
	info := refused(t, balance(t, m.dial(reader)), codes.PermissionDenied, "ROLE_REQUIRED")
	if info["role"] != "ledger.writer" || info["method"] != "/ledger.v1.LedgerService/GetBalance" {
		t.Errorf("metadata %v", info)
	}
	m.audit.find(t, map[string]any{"event": "handler", "verdict": "denied", "reason": "ROLE_REQUIRED", "workload": "spiffe://mesh.local/service/reader"})
	refused(t, interceptors.CallerFrom(t.Context()).Require("ledger.writer"), codes.PermissionDenied, "ROLE_REQUIRED")
}

func TestWhatAHandlerDeniesIsOnRecord(t *testing.T) {
	t.Parallel()
	m := newMesh(t)
	m.ledger.getBalance = func(ctx context.Context) error {
		interceptors.CallerFrom(ctx).Denied("TICKET_USED", strings.Repeat("x", 1000))
		return nil
	}
	must(t, balance(t, m.dial(reader)))
	m.audit.find(t, map[string]any{
		"event": "handler", "verdict": "denied", "reason": "TICKET_USED", "detail": strings.Repeat("x", 512),
		"workload": "spiffe://mesh.local/service/reader", "method": "/ledger.v1.LedgerService/GetBalance",
	})
	interceptors.CallerFrom(t.Context()).Denied("NOBODY", "is on record for nothing")
}

func TestOutsideOfACallThereIsNobody(t *testing.T) {
	t.Parallel()
	nobody := interceptors.CallerFrom(t.Context())
	if !nobody.ID().IsZero() || nobody.HasRole("ledger.reader") || nobody.Roles() != nil {
		t.Errorf("got %v", nobody)
	}
}

// TestRequireAfterTheCertificateHasExpired asks for a role that the caller held when the call began.
func TestRequireAfterTheCertificateHasExpired(t *testing.T) {
	t.Parallel()
	var wall clock
	m := newMesh(t, wall.configure)
	required := make(chan error, 1)
	m.ledger.getBalance = func(ctx context.Context) error {
		caller := interceptors.CallerFrom(ctx)
		must(t, caller.Require("ledger.reader"))
		wall.forward(2 * time.Hour)
		eventually(t, "role that is not held any more", func() bool { return !caller.HasRole("ledger.reader") })
		required <- caller.Require("ledger.reader")
		return nil
	}
	_ = balance(t, m.dial(reader)) // its connection is closed under it, sooner or later
	// Clients make a call again whose refusal names the method: the handler may have done something by now.
	if info := refused(t, <-required, codes.Unauthenticated, "PEER_CERTIFICATE_EXPIRED"); len(info) > 0 {
		t.Errorf("metadata %v, want none", info)
	}
	m.audit.find(t, map[string]any{"event": "handler", "verdict": "denied", "reason": "PEER_CERTIFICATE_EXPIRED"})
}
