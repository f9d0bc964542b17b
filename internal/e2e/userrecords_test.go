//go:build unix

package e2e_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	ordersv1 "example.com/rolecall/gen/orders/v1"
	"example.com/rolecall/interceptors"
)

// callRecord is who called what, and for whom.
type callRecord struct {
	Method   string `json:"method"`
	Workload string `json:"workload"`
	User     string `json:"user"`
}

// hasRecord looks for the record of a call that was allowed.
func hasRecord(log string, want callRecord) error {
	var others []callRecord
	for line := range strings.Lines(log) {
		var record struct {
			callRecord
			Verdict string `json:"verdict"`
		}
		if json.Unmarshal([]byte(line), &record) != nil || record.Verdict != "allowed" || record.Method != want.Method {
			continue
		}
		if record.callRecord == want {
			return nil
		}
		others = append(others, record.callRecord)
	}
	return fmt.Errorf("no record %+v; those of the method: %+v", want, others)
}

func TestTheAuditRecordsOfAnOrderNameWorkloadAndUser(t *testing.T) {
	t.Parallel()
	running := startMesh(t, "--audit-allowed")
	alice, bob := running.caller(t, "alice"), running.caller(t, "bob")
	dave := running.sampleUser(t, "dave")
	paying, receiving := purse(t, alice, dave)
	token := bob.login(t, dave).GetAccessToken()
	accepted(t, bob.behalf(t, paying, token))
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	placed, err := bob.orders(t).PlaceOrder(interceptors.AsUser(ctx, token), &ordersv1.PlaceOrderRequest{
		Item: "a lamp", Price: euro(4200), PayingAccount: paying, ReceivingAccount: receiving,
	})
	if err != nil || placed.GetOrder().GetState() != ordersv1.Order_STATE_PAID {
		t.Fatalf("place an order: %v, %v", placed, err)
	}
	orders := running.service(t, "orders").ID
	for service, want := range map[string]callRecord{
		"orders": {"/orders.v1.OrdersService/PlaceOrder", operator(t, running.file, "bob").ID, "dave"},
		"ledger": {"/ledger.v1.LedgerService/Transfer", orders, "dave"},
		"users":  {"/users.v1.UsersService/Get", orders, "dave"},
	} {
		await(t, "the log of "+service+" has the record", func() error {
			return hasRecord(strings.Join(logLines(running, service), "\n"), want)
		})
	}
	if err := searchLogs(running.dir); err != nil {
		t.Errorf("passwords and tokens belong in no log: %v", err)
	}
}
