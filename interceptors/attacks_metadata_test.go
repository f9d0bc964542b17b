package interceptors_test

import (
	"bytes"
	"context"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	reflectionv1 "google.golang.org/grpc/reflection/grpc_reflection_v1"
	reflectionv1alpha "google.golang.org/grpc/reflection/grpc_reflection_v1alpha"

	ledgerv1 "example.com/rolecall/gen/ledger/v1"
	"example.com/rolecall/rolecalltest"
)

var roleRequired = verdict{code: codes.PermissionDenied, reason: "ROLE_REQUIRED"}

// metadataAttacks are calls of a verified peer that lacks a role, and what it says to get it all the same.
var metadataAttacks = []attack{
	{name: "x-forwarded-client-cert", verdict: roleRequired, audit: "ROLE_REQUIRED", run: saying("x-forwarded-client-cert", "By=spiffe://mesh.local/service/ledger;URI=spiffe://mesh.local/service/writer")},
	{name: "x-forwarded-client-cert twice", verdict: roleRequired, audit: "ROLE_REQUIRED", run: saying("x-forwarded-client-cert", "URI=spiffe://mesh.local/service/writer", "x-forwarded-client-cert", "URI=spiffe://mesh.local/service/writer")},
	{name: "rolecall-id", verdict: roleRequired, audit: "ROLE_REQUIRED", run: saying("rolecall-id", "spiffe://mesh.local/service/writer", "rolecall-workload", "spiffe://mesh.local/service/writer")},
	{name: "rolecall-roles", verdict: roleRequired, audit: "ROLE_REQUIRED", run: saying("rolecall-roles", "ledger.writer", "rolecall-role", "ledger.writer", "rolecall-held", "ledger.admin")},
	{name: "rolecall-roles-bin", verdict: roleRequired, audit: "ROLE_REQUIRED", run: saying("rolecall-roles-bin", "ledger.writer", "rolecall-role-subset-bin", "ledger.admin")},
	{name: "rolecall metadata in upper case", verdict: roleRequired, audit: "ROLE_REQUIRED", run: saying("Rolecall-Role-Subset", "ledger.admin", "ROLECALL-ROLES", "ledger.writer")},
	{name: "rolecall metadata duplicated", verdict: roleRequired, audit: "ROLE_REQUIRED", run: saying("rolecall-role-subset", "ledger.admin", "rolecall-role-subset", "ledger.writer")},
	{name: "role subset with unknown, duplicate and superset values", verdict: roleRequired, audit: "ROLE_REQUIRED", run: saying("rolecall-role-subset", "ledger.admin ledger.admin ledger.everything * ledger.*")},
	{name: "authorization metadata", verdict: roleRequired, audit: "ROLE_REQUIRED", run: saying("authorization", "Bearer ledger.writer")},
	{name: "reflection without a role", verdict: roleRequired, audit: "ROLE_REQUIRED", run: func(t *testing.T, m *mesh) error {
		stream, err := reflectionv1.NewServerReflectionClient(m.dial(writer)).ServerReflectionInfo(timeout(t))
		must(t, err)
		_, err = stream.Recv()
		return err
	}},
	{name: "reflection v1alpha without a role", verdict: roleRequired, audit: "ROLE_REQUIRED", run: func(t *testing.T, m *mesh) error {
		stream, err := reflectionv1alpha.NewServerReflectionClient(m.dial(writer)).ServerReflectionInfo(timeout(t))
		must(t, err)
		_, err = stream.Recv()
		return err
	}},
	{name: "health without a certificate", verdict: handshake, audit: "no_certificate", run: func(t *testing.T, m *mesh) error {
		return m.shake(t, nil, nil)
	}},
	{name: "any_workload by a foreign trust domain", verdict: roleRequired, audit: "ROLE_REQUIRED", run: func(t *testing.T, m *mesh) error {
		_, err := healthpb.NewHealthClient(m.dialForeign(t, "/service/reader")).Check(timeout(t), &healthpb.HealthCheckRequest{})
		return err
	}},
	{name: "wildcard member by a foreign trust domain", verdict: roleRequired, audit: "ROLE_REQUIRED",
		mesh: bindings("trustDomain: mesh.local\nbindings:\n  - role: ledger.reader\n    members: ['spiffe://mesh.local/service/*']\n"),
		run:  func(t *testing.T, m *mesh) error { return balance(t, m.dialForeign(t, "/service/reader")) }},
	{name: "message over the size limit", verdict: verdict{code: codes.ResourceExhausted}, run: func(t *testing.T, m *mesh) error {
		_, err := ledgerv1.NewLedgerServiceClient(m.dial(writer)).Transfer(timeout(t), &ledgerv1.TransferRequest{Note: string(bytes.Repeat([]byte("a"), 5<<20))})
		return err
	}},
	{name: "a large body from a caller without the role", verdict: roleRequired, audit: "ROLE_REQUIRED", run: func(t *testing.T, m *mesh) error {
		_, err := ledgerv1.NewLedgerServiceClient(m.dial(nobody)).Transfer(timeout(t), &ledgerv1.TransferRequest{Note: string(bytes.Repeat([]byte("a"), 3<<20))})
		return err
	}},
}

// TestHealthNeedsNoRole is the other side of the attack on it.
func TestHealthNeedsNoRole(t *testing.T) {
	t.Parallel()
	m := newMesh(t)
	if _, err := healthpb.NewHealthClient(m.dial(nobody)).Check(timeout(t), &healthpb.HealthCheckRequest{}); err != nil {
		t.Fatal(err)
	}
}

// TestAForeignIDMayBeBoundInFull shows that the foreign peers above fail for want of a binding, not of a handshake.
func TestAForeignIDMayBeBoundInFull(t *testing.T) {
	t.Parallel()
	m := newMesh(t, bindings("trustDomain: mesh.local\nbindings:\n  - role: ledger.reader\n    members: ['spiffe://partner.example/service/reader']\n"))
	if err := balance(t, m.dialForeign(t, "/service/reader")); err != nil {
		t.Fatal(err)
	}
}

// dialForeign dials as a workload of another trust domain, whose bundle the server has and which has the server's.
func (m *mesh) dialForeign(t *testing.T, path string) *grpc.ClientConn {
	t.Helper()
	foreign := rolecalltest.NewCA(t, "partner.example")
	m.source.Trust(m.ca, foreign)
	source := foreign.Source(path)
	source.Trust(m.ca, foreign)
	return m.dialAs(source)
}

// saying makes a call that needs ledger.writer as a peer that holds ledger.reader, with the metadata.
func saying(pairs ...string) func(*testing.T, *mesh) error {
	return func(t *testing.T, m *mesh) error {
		ctx := metadata.AppendToOutgoingContext(context.Background(), pairs...)
		_, err := ledgerv1.NewLedgerServiceClient(m.dial(reader)).Transfer(ctx, &ledgerv1.TransferRequest{})
		return err
	}
}
