//go:build unix

package e2e_test

import (
	"bytes"
	"context"
	"io"
	"net"
	"sync"
	"testing"

	"github.com/google/uuid"
	"google.golang.org/grpc/codes"

	ledgerv1 "example.com/rolecall/gen/ledger/v1"
	"example.com/rolecall/interceptors/proof"
)

// TestACapturedConversationIsOfNoUse records all bytes between a client and the ledger, and what the client handed to TLS.
func TestACapturedConversationIsOfNoUse(t *testing.T) {
	t.Parallel()
	running := sharedMesh(t)
	alice := running.caller(t, "alice")
	from, to := openAccounts(t, alice.ledger(t), "")
	ledgerID := parseID(t, running.service(t, "ledger").ID)

	wire := record(t, running.service(t, "ledger").Address)
	conn, err := alice.guard.NewClient("dns:///"+wire.address, ledgerID)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	request := &ledgerv1.TransferRequest{
		FromAccount: from, ToAccount: to, Amount: euro(1250), Note: "nobody else reads this note", RequestId: uuid.NewString(),
	}
	// What the client hands to TLS, body and metadata.
	sent, err := alice.proofs.Signer().Sign(ledgerID, request, ledgerv1.LedgerService_Transfer_FullMethodName)
	if err != nil {
		t.Fatalf("sign: %v", err)
	}
	if _, err := proof.Forward(ctx, conn, sent); err != nil {
		t.Fatalf("transfer: %v", err)
	}
	_ = conn.Close()
	recorded := wire.bytes()
	t.Logf("%d bytes were recorded", len(recorded))
	if len(recorded) < 2000 {
		t.Error("that is not the whole conversation")
	}
	for _, plain := range []string{request.GetNote(), from, to, request.GetRequestId(), sent.GetProof(), "rolecall-proof", "LedgerService"} {
		if bytes.Contains(recorded, []byte(plain)) {
			t.Errorf("the recorded bytes hold %q", plain)
		}
	}

	t.Run("replaying the recorded metadata and body over a fresh connection of the same identity is refused", func(t *testing.T) {
		_, err = proof.Forward(ctx, running.caller(t, "alice").dial(t, "ledger"), sent)
		if got, want := verdictOf(err), (verdict{Code: codes.Unauthenticated, Reason: "PROOF_REPLAYED"}); got != want {
			t.Errorf("%+v (%v), want %+v", got, err, want)
		}
	})
	t.Run("replaying the recorded bytes is refused by TLS", func(t *testing.T) {
		conn, err := net.Dial("tcp", running.service(t, "ledger").Address)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close() //nolint:errcheck // the server has closed it
		if _, err := conn.Write(wire.client()); err != nil {
			t.Logf("the server hung up while it was sent to: %v", err)
		}
		_, _ = io.Copy(io.Discard, conn) // until the server hangs up
	})
	balance, err := alice.ledger(t).GetBalance(ctx, &ledgerv1.GetBalanceRequest{AccountId: to})
	if err != nil || balance.GetBalance().GetMinorUnits() != 1250 {
		t.Errorf("the balance is %v, %v: the transfer was to take effect once", balance, err)
	}
}

// recording is a relay that keeps what passes.
type recording struct {
	address string

	mu   sync.Mutex
	sent bytes.Buffer // by the client
	back bytes.Buffer
}

// record relays connections to an address.
func record(t *testing.T, to string) *recording {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &recording{address: listener.Addr().String()}
	var relays sync.WaitGroup
	t.Cleanup(func() {
		_ = listener.Close()
		relays.Wait()
	})
	relays.Go(func() {
		for {
			near, err := listener.Accept()
			if err != nil {
				return
			}
			far, err := net.Dial("tcp", to)
			if err != nil {
				_ = near.Close()
				continue
			}
			relays.Go(func() { r.pass(near, far, &r.sent) })
			relays.Go(func() { r.pass(far, near, &r.back) })
		}
	})
	return r
}

// pass copies one way, and keeps what it copies, until one side ends.
func (r *recording) pass(from, to net.Conn, keep *bytes.Buffer) {
	defer from.Close() //nolint:errcheck // both sides are done
	defer to.Close()   //nolint:errcheck // both sides are done
	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		r.mu.Lock()
		keep.Write(buffer[:n])
		r.mu.Unlock()
		if err != nil {
			return
		}
		if _, err := to.Write(buffer[:n]); err != nil {
			return
		}
	}
}

func (r *recording) client() []byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	return bytes.Clone(r.sent.Bytes())
}

func (r *recording) bytes() []byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append(bytes.Clone(r.sent.Bytes()), r.back.Bytes()...)
}
