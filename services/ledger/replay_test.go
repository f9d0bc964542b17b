package ledger_test

import (
	"sync"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"example.com/rolecall/internal/node"
	"example.com/rolecall/internal/node/nodetest"
	"example.com/rolecall/internal/store/storetest"
	"example.com/rolecall/services/ledger"
)

// Attack: the same proof at a second replica, at the same moment.
func TestAProofThatIsSentToTwoReplicasAtOnceIsAcceptedByOne(t *testing.T) {
	t.Parallel()
	url := storetest.Postgres(t)
	b := newBooks(t, url)
	other := b.mesh.Start(t, "ledger", url, ledger.Setup)
	const rounds = 1000
	own, shop := b.open(t, "/service/orders", rounds), b.open(t, "/service/shop", 0)
	orders := b.hand(t, "/service/orders")
	replicas := []*grpc.ClientConn{orders.dial(t, b.service), orders.dial(t, other)}
	accepted := make([]int, len(replicas)) // by each
	reasons := map[string]int{}
	for round := range rounds {
		signed := orders.sign(t, b.service, transfer(own, shop, 1))
		errs := make([]error, len(replicas))
		var wg sync.WaitGroup
		for i, conn := range replicas {
			wg.Go(func() { _, errs[i] = forward(nodetest.Context(t), conn, signed) })
		}
		wg.Wait()
		n := 0
		for i, err := range errs {
			reason := nodetest.Reason(err)
			switch {
			case err == nil:
				n++
				accepted[i]++
			case reason != "PROOF_REPLAYED" && reason != "REQUEST_IN_PROGRESS":
				t.Fatalf("round %d, replica %d: %v", round, i, err)
			}
			reasons[status.Code(err).String()+" "+reason]++
		}
		if n != 1 {
			t.Fatalf("round %d: accepted by %d replicas: %v", round, n, errs)
		}
		for i, conn := range replicas { // whoever was too early to be told so is told now
			if _, err := forward(nodetest.Context(t), conn, signed); nodetest.Reason(err) != "PROOF_REPLAYED" {
				t.Fatalf("round %d, replica %d, once more: got %v, want PROOF_REPLAYED", round, i, err)
			}
		}
	}
	t.Logf("accepted by exactly one replica: %d of %d times; by each: %v; answers: %v", accepted[0]+accepted[1], rounds, accepted, reasons)
	if got := [2]int64{b.balance(t, own), b.balance(t, shop)}; got != [2]int64{0, rounds} {
		t.Errorf("balances: got %v, want [0 %d]", got, rounds)
	}
}

// Attack: the same proof after a restart.
func TestAProofIsNotGoodAgainAfterARestart(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, url string) {
		dir := t.TempDir()
		same := func(cfg *node.Config) { cfg.Dir = dir }
		mesh := nodetest.New(t, roles)
		b := &books{mesh: mesh, service: mesh.Start(t, "ledger", url, ledger.Setup, same)}
		b.alice = b.as(t, "/operator/alice")
		own, shop := b.open(t, "/service/orders", 100), b.open(t, "/service/shop", 0)
		orders := b.hand(t, "/service/orders")
		req := transfer(own, shop, 30)
		signed := orders.sign(t, b.service, req)
		first, err := forward(nodetest.Context(t), orders.dial(t, b.service), signed)
		if err != nil {
			t.Fatalf("transfer: %v", err)
		}
		if err := b.service.Stop(); err != nil {
			t.Fatalf("stop: %v", err)
		}
		b.service = mesh.Start(t, "ledger", url, ledger.Setup, same)
		b.alice = b.as(t, "/operator/alice")
		conn := orders.dial(t, b.service)
		_, err = forward(nodetest.Context(t), conn, signed)
		if status.Code(err) != codes.Unauthenticated || nodetest.Reason(err) != "PROOF_REPLAYED" {
			t.Errorf("after the restart: got %v, want PROOF_REPLAYED", err)
		}
		again, err := forward(nodetest.Context(t), conn, orders.sign(t, b.service, req))
		if err != nil || again != first {
			t.Errorf("with a new proof: %x, %v, want the answer of before: %x", again, err, first)
		}
		if got := b.balance(t, own); got != 70 {
			t.Errorf("balance: got %d, want 70", got)
		}
	})
}
