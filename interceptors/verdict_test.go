package interceptors_test

import (
	"strings"
	"testing"

	"google.golang.org/grpc/codes"

	ledgerv1 "example.com/rolecall/gen/ledger/v1"
	"example.com/rolecall/interceptors"
	"example.com/rolecall/interceptors/internal/feature"
)

func TestAVerdictThatMakesNoSenseLetsNobodyInAndIsLogged(t *testing.T) {
	t.Parallel()
	users := &fakeUsers{verify: func() feature.Verdict { return feature.Replayed }} // is said of proofs
	m := newMesh(t, func(c *meshConfig) { c.options = []interceptors.Option{interceptors.With(users)} })
	conn := m.dial(reader)
	must(t, balance(t, conn))
	reached := m.ledger.reached.Load()
	_, err := ledgerv1.NewLedgerServiceClient(conn).GetBalance(interceptors.AsUser(timeout(t), "alice"), &ledgerv1.GetBalanceRequest{})
	refused(t, err, codes.Internal, "INTERNAL")
	if n := m.ledger.reached.Load() - reached; n != 0 {
		t.Errorf("the handler was reached %d times", n)
	}
	if log := m.log.String(); !strings.Contains(log, "a verdict that makes no sense") || strings.Contains(log, "panic") {
		t.Errorf("the log has %s", log)
	}
}
