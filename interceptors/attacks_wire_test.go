package interceptors_test

import (
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/grpc/codes"
)

// wireAttacks are requests that no gRPC client writes, on a raw HTTP/2 connection of a peer that holds ledger.reader,
// for a method that it may not call: any spelling that a check and the router read differently would let it in.
var wireAttacks = []attack{
	{name: ":path without slash", verdict: verdict{code: codes.Unimplemented}, run: asking("ledger.v1.LedgerService/Transfer")},
	{name: ":path with double slash", verdict: notAnnotated, audit: "METHOD_NOT_ANNOTATED", run: asking("//ledger.v1.LedgerService/Transfer")},
	{name: ":path with double slash inside", verdict: notAnnotated, audit: "METHOD_NOT_ANNOTATED", run: asking("/ledger.v1.LedgerService//Transfer")},
	{name: ":path with trailing slash", verdict: notAnnotated, audit: "METHOD_NOT_ANNOTATED", run: asking("/ledger.v1.LedgerService/Transfer/")},
	{name: ":path with percent-encoding", verdict: notAnnotated, audit: "METHOD_NOT_ANNOTATED", run: asking("/ledger.v1.LedgerService/Trans%66er")},
	{name: ":path with an encoded slash", verdict: verdict{code: codes.Unimplemented}, run: asking("/ledger.v1.LedgerService%2FTransfer")},
	{name: ":path in other case", verdict: notAnnotated, audit: "METHOD_NOT_ANNOTATED", run: asking("/ledger.v1.LedgerService/transfer")},
	{name: ":path of another case of the service", verdict: notAnnotated, audit: "METHOD_NOT_ANNOTATED", run: asking("/Ledger.V1.LedgerService/Transfer")},
	{name: ":path with a dot segment", verdict: notAnnotated, audit: "METHOD_NOT_ANNOTATED", run: asking("/ledger.v1.LedgerService/./Transfer")},
	{name: ":path with a query", verdict: notAnnotated, audit: "METHOD_NOT_ANNOTATED", run: asking("/ledger.v1.LedgerService/Transfer?x=y")},
	{name: ":path of a method that does not exist", verdict: notAnnotated, audit: "METHOD_NOT_ANNOTATED", run: asking("/ledger.v1.LedgerService/Nothing")},
	{name: ":path of a service that does not exist", verdict: notAnnotated, audit: "METHOD_NOT_ANNOTATED", run: asking("/nothing.v1.Nothing/Nothing")},
	{name: ":path as it should be, without the role", verdict: roleRequired, audit: "ROLE_REQUIRED", run: asking("/ledger.v1.LedgerService/Transfer")},
	{name: "upper case in a raw header name", verdict: verdict{http2: http2.ErrCodeProtocol}, run: func(t *testing.T, m *mesh) error {
		return m.request(t, "/ledger.v1.LedgerService/Transfer", hpack.HeaderField{Name: "Rolecall-Roles", Value: "ledger.writer"})
	}},
}

var notAnnotated = verdict{code: codes.PermissionDenied, reason: "METHOD_NOT_ANNOTATED"}

// TestARawRequestCanSucceed shows that the raw requests above fail for what is wrong with them.
func TestARawRequestCanSucceed(t *testing.T) {
	t.Parallel()
	m := newMesh(t)
	if err := m.request(t, "/ledger.v1.LedgerService/GetBalance"); err != nil {
		t.Fatal(err)
	}
}

func asking(path string) func(*testing.T, *mesh) error {
	return func(t *testing.T, m *mesh) error { return m.request(t, path) }
}
