package keys_test

import (
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	keysv1 "example.com/rolecall/gen/keys/v1"
	"example.com/rolecall/internal/node"
	"example.com/rolecall/internal/node/nodetest"
	"example.com/rolecall/internal/store/storetest"
)

func TestTheKeysOfTokensAreHandedOnAndKeptWhileItIsAway(t *testing.T) {
	t.Parallel()
	h := newHouse(t, "")
	reader := h.reader(t)
	get := func() (*keysv1.GetTokenKeysResponse, error) {
		return reader.GetTokenKeys(nodetest.Context(t), &keysv1.GetTokenKeysRequest{})
	}
	if _, err := get(); status.Code(err) != codes.Unavailable {
		t.Errorf("before tokens was reached: got %v, want %s", err, codes.Unavailable)
	}
	h.mesh.Users(t) // starts tokens
	await(t, "keys of tokens", func() bool {
		answer, err := get()
		return err == nil && answer.GetKeys().GetJws() != "" && len(answer.GetKeys().GetChain()) > 0
	})
	h.mesh.Tokens.To(nil)
	if _, err := get(); err != nil {
		t.Errorf("while tokens is away: %v", err)
	}
	h.clock.advance(2 * time.Hour) // longer than anything is good that tokens has signed
	if _, err := get(); status.Code(err) != codes.Unavailable {
		t.Errorf("two hours later: got %v, want %s", err, codes.Unavailable)
	}
}

func TestAKeyServerWithoutATokensServiceSaysSo(t *testing.T) {
	t.Parallel()
	h := newHouse(t, "")
	h.server = h.start(t, func(cfg *node.Config) { cfg.Peers, cfg.Database = nil, storetest.SQLite(t) })
	h.announce(t, h.mesh.CA.Source("/service/orders"))
	if _, err := h.reader(t).GetTokenKeys(nodetest.Context(t), &keysv1.GetTokenKeysRequest{}); status.Code(err) != codes.FailedPrecondition {
		t.Errorf("got %v, want %s", err, codes.FailedPrecondition)
	}
}
