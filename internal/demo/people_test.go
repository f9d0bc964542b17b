package demo

import (
	"testing"

	ledgerv1 "example.com/rolecall/gen/ledger/v1"
	"example.com/rolecall/internal/mesh"
	"example.com/rolecall/internal/node/nodetest"
	"example.com/rolecall/internal/store/storetest"
	"example.com/rolecall/services/ledger"
)

func TestWithoutAGuardACallIsAnsweredAsGrpcurlIs(t *testing.T) {
	t.Parallel()
	m := nodetest.New(t, `
trustDomain: mesh.local
bindings:
  - role: ledger.writer
    members: [spiffe://mesh.local/operator/alice]
`)
	running := m.Start(t, "ledger", storetest.SQLite(t), ledger.Setup)
	service := mesh.Service{Name: "ledger", ID: running.ID.String(), Address: running.Addr}
	tour := &tour{file: &mesh.File{Services: []mesh.Service{service}}}
	conn, err := tour.unguarded(&person{source: m.CA.Source("/operator/alice")}, service)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	got := calls(ledgerv1.NewLedgerServiceClient(conn).Transfer, &ledgerv1.TransferRequest{})(nodetest.Context(t))
	want := proofRequired
	want.text = "the method is called with a signed proof of the request" // and nothing of this end, which the server does not know
	if got.code != want.code || got.reason != want.reason || got.text != want.text {
		t.Errorf("got %+v, want %+v", got, want)
	}
}
