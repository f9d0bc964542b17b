package up

import (
	"context"
	"io"
	"log/slog"
	"os"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"example.com/rolecall/pki"
)

// An agent whose certificate has expired cannot renew it: up puts a new one into its file.
func TestTheAgentIsGivenANewCertificateWhenItHasNone(t *testing.T) {
	t.Parallel()
	dir, td := newDir(t), spiffeid.RequireTrustDomainFromString("mesh.local")
	const life = pki.MinLeafLife
	ca, _, err := pki.OpenOrCreate(dir.Path(), pki.Config{TrustDomain: td, IssuerLife: 6 * life, LeafLife: life})
	if err != nil {
		t.Fatal(err)
	}
	r := &run{config: Config{LeafTTL: life}, dir: dir, plan: &plan{td: td}, ca: ca, log: slog.New(slog.NewTextHandler(io.Discard, nil))}
	if err := r.issueAgent(); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(dir.AgentCredential()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	ended := make(chan struct{})
	go func() { defer close(ended); r.keepAgent(ctx) }()
	for tick := time.NewTicker(20 * time.Millisecond); ; <-tick.C {
		if svid, err := pki.ReadCredential(dir.AgentCredential()); err == nil {
			t.Logf("the agent's certificate is of %s", svid.ID)
			break
		}
		if ctx.Err() != nil {
			t.Fatal("no certificate for the agent within 10 s")
		}
	}
	cancel()
	<-ended
}
