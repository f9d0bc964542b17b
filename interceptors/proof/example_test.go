package proof_test

import (
	"context"
	"fmt"
	"os"
	"slices"
	"testing"

	"example.com/rolecall/interceptors/proof"
)

// A till signs a payment that a shop passes on to the bank. Each of the three has a guard with a feature that knows the key
// server, and the shop's client of the bank is its guard's.
func ExampleForward() {
	t := &exampleTB{}
	defer t.end()
	m := newMesh(t)
	till, shop := m.workload(payer), m.workload(relay)
	proofs, conn, request := till.feature, shop.conn, payment(t, "dave", 1)
	ctx, bank := context.Background(), m.ca.ID(bankPath)

	// The till: once the key server knows its key.
	if err := proofs.Announced(ctx); err != nil {
		fmt.Println(err)
	}
	signed, err := proofs.Signer().Sign(bank, request, "/bank.v1.Bank/Pay", proof.Via(m.ca.ID(relay)))
	if err != nil {
		fmt.Println(err)
	}
	// The shop: over its own connection to the bank.
	answer, err := proof.Forward(ctx, conn, signed)
	if err != nil {
		fmt.Println(err)
	}
	// The till again: it was the bank that answered so, to this request.
	if err := proofs.VerifyReceipt(ctx, signed, answer); err != nil {
		fmt.Println(err)
	}
	fmt.Println("paid")
	// Output: paid
}

// exampleTB is the test that an example is not.
type exampleTB struct {
	testing.TB
	cleanups []func()
}

func (*exampleTB) Helper()                  {}
func (*exampleTB) Context() context.Context { return context.Background() }
func (e *exampleTB) Cleanup(f func())       { e.cleanups = append(e.cleanups, f) }

func (*exampleTB) Errorf(format string, args ...any) { fmt.Printf(format+"\n", args...) }
func (*exampleTB) Fatalf(format string, args ...any) { panic(fmt.Sprintf(format, args...)) }
func (*exampleTB) Fatal(args ...any)                 { panic(fmt.Sprint(args...)) }

func (e *exampleTB) TempDir() string {
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		e.Fatal(err)
	}
	e.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

func (e *exampleTB) end() {
	for _, f := range slices.Backward(e.cleanups) {
		f()
	}
}
