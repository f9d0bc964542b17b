package authority

import (
	"fmt"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"google.golang.org/protobuf/proto"

	authorityv1 "example.com/rolecall/gen/authority/v1"
)

func agentNumber(n int) spiffeid.ID {
	return spiffeid.RequireFromString(fmt.Sprintf("spiffe://mesh.local/agent/n%d", n))
}

func TestReportsAreBounded(t *testing.T) {
	t.Parallel()
	const keep = time.Hour
	noon := time.Date(2026, 5, 3, 12, 0, 0, 0, time.UTC)
	small, large := &authorityv1.ReportTrustRequest{Digest: make([]byte, 32)}, &authorityv1.ReportTrustRequest{Digest: make([]byte, maxReportsBytes/3)}

	t.Run("by the number of agents", func(t *testing.T) {
		t.Parallel()
		var r reports
		for n := range maxReporters {
			if err := r.put(agentNumber(n), small, noon, keep); err != nil {
				t.Fatalf("agent %d: %v", n, err)
			}
		}
		if err := r.put(agentNumber(maxReporters), small, noon.Add(keep), keep); err == nil {
			t.Error("one agent more was let in")
		}
		if err := r.put(agentNumber(7), small, noon.Add(keep), keep); err != nil {
			t.Errorf("an agent that is known reports again: %v", err)
		}
		if err := r.put(agentNumber(maxReporters), small, noon.Add(keep+1), keep); err != nil {
			t.Errorf("once the others are stale: %v", err)
		}
		if agents, _ := r.all(); len(agents) != 2 || agents[0] != agentNumber(maxReporters) || agents[1] != agentNumber(7) {
			t.Errorf("what is left: %v", agents)
		}
	})
	t.Run("by their size", func(t *testing.T) {
		t.Parallel()
		var r reports
		for n := range 2 {
			if err := r.put(agentNumber(n), large, noon, keep); err != nil {
				t.Fatal(err)
			}
		}
		if err := r.put(agentNumber(2), large, noon, keep); err == nil {
			t.Error("a report too many was let in")
		}
		if err := r.put(agentNumber(1), small, noon, keep); err != nil {
			t.Errorf("an agent reports less: %v", err)
		}
		if err := r.put(agentNumber(2), large, noon, keep); err != nil {
			t.Errorf("there is room again: %v", err)
		}
		want := 2*proto.Size(large) + proto.Size(small)
		if r.bytes != want {
			t.Errorf("counts %d bytes, want %d", r.bytes, want)
		}
	})
}
