package node

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

func TestTheWaitForTheWorkloadAPIIsBounded(t *testing.T) {
	t.Setenv("SPIFFE_ENDPOINT_SOCKET", "unix://"+filepath.Join(t.TempDir(), "nobody.sock"))
	_, err := workloadSource(t.Context(), "users", spiffeid.ID{}, 300*time.Millisecond)
	for _, want := range []string{"SPIFFE_ENDPOINT_SOCKET=unix://", "within 300ms", "nobody.sock", "is the agent running"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want an error that says %q", err, want)
		}
	}
}
