package ledger_test

import (
	"context"
	"log/slog"
	"testing"

	"github.com/google/uuid"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	keysv1 "example.com/rolecall/gen/keys/v1"
	ledgerv1 "example.com/rolecall/gen/ledger/v1"
	rolecallv1 "example.com/rolecall/gen/rolecall/v1"
	"example.com/rolecall/interceptors"
	signing "example.com/rolecall/interceptors/proof"
	"example.com/rolecall/internal/node/nodetest"
)

// hand is a workload that signs requests by hand, and sends what it or another has signed: once each time, exact bytes, so
// that a test can send a proof twice.
type hand struct {
	signer *signing.Signer
	guard  *interceptors.Guard
}

func (b *books) hand(t *testing.T, path string) *hand {
	t.Helper()
	source := b.mesh.CA.Source(path)
	guard, err := interceptors.New(source, nil, interceptors.Audit(slog.DiscardHandler), interceptors.With(signing.New(signing.Config{})))
	if err != nil {
		t.Fatalf("guard of %s: %v", path, err)
	}
	t.Cleanup(func() {
		if err := guard.Close(); err != nil {
			t.Errorf("close the guard of %s: %v", path, err)
		}
	})
	return &hand{signer: signing.NewSigner(source), guard: guard}
}

// announced is a hand whose key others find at the keys service, which runs from then on.
func (b *books) announced(t *testing.T, path string) *hand {
	t.Helper()
	if b.keys == nil {
		b.keys = b.mesh.Directory(t)
	}
	h := b.hand(t, path)
	conn, err := h.guard.NewClient(b.keys.Target(), b.keys.ID())
	if err != nil {
		t.Fatalf("connect to the keys service: %v", err)
	}
	defer conn.Close() //nolint:errcheck // the answer is all that counts
	if _, err := keysv1.NewKeysServiceClient(conn).Announce(nodetest.Context(t), &keysv1.AnnounceRequest{}); err != nil {
		t.Fatalf("announce the key of %s: %v", path, err)
	}
	return h
}

// dial connects to a service, without retries.
func (h *hand) dial(t *testing.T, to *nodetest.Service) *grpc.ClientConn {
	t.Helper()
	conn, err := h.guard.NewClient("dns:///"+to.Addr, to.ID, grpc.WithDisableRetry())
	if err != nil {
		t.Fatalf("connect to %s: %v", to.ID, err)
	}
	t.Cleanup(func() {
		if err := conn.Close(); err != nil {
			t.Errorf("close the connection: %v", err)
		}
	})
	return conn
}

// sign signs a transfer, which gets a request_id if it has none.
func (h *hand) sign(t *testing.T, to *nodetest.Service, req *ledgerv1.TransferRequest) *rolecallv1.SignedRequest {
	t.Helper()
	if req.GetRequestId() == "" {
		req.RequestId = uuid.NewString()
	}
	signed, err := h.signer.Sign(to.ID, req, ledgerv1.LedgerService_Transfer_FullMethodName)
	if err != nil {
		t.Fatalf("sign: %v", err)
	}
	return signed
}

// forward sends a signed transfer, and returns the exact bytes of the answer.
func forward(ctx context.Context, conn grpc.ClientConnInterface, signed *rolecallv1.SignedRequest) (string, error) {
	answer, err := signing.Forward(ctx, conn, signed)
	return string(answer.GetResponse()), err
}

// record reads the exact bytes of an answer.
func record(t *testing.T, response string) *ledgerv1.TransferRecord {
	t.Helper()
	var answer ledgerv1.TransferResponse
	if err := proto.Unmarshal([]byte(response), &answer); err != nil {
		t.Fatalf("response %x: %v", response, err)
	}
	return answer.GetTransfer()
}
