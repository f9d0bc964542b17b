package demo

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"

	"example.com/rolecall/internal/node"
)

// inForce waits until the ledger goes by the bindings that are in the file: somebody, or an earlier tour, may have written
// it a moment ago.
func (t *tour) inForce(ctx context.Context) error {
	bounded, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	var seen *node.Readiness
	for {
		ready, err := readyz(bounded, t.ledger.Admin)
		if err == nil {
			seen = &ready
			if ready.Policy.Version == t.policy.Version && ready.Policy.Error == "" {
				return nil
			}
		}
		select {
		case <-tick.C:
		case <-bounded.Done():
			if seen == nil {
				return fmt.Errorf("the ledger does not answer, see %s and %s: %w", t.rolecall("status"), t.dir.Log(t.ledger.Name), err)
			}
			return fmt.Errorf("the ledger does not go by %s, version %s, but by version %q: see %s",
				t.file.Roles, t.policy.Version, seen.Policy.Version, t.dir.Log(t.ledger.Name))
		}
	}
}

// readyz asks a service which bindings are in force.
func readyz(ctx context.Context, admin string) (node.Readiness, error) {
	var ready node.Readiness
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+admin+"/readyz", nil)
	if err != nil {
		return ready, err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return ready, err
	}
	defer response.Body.Close() //nolint:errcheck // read only
	return ready, json.NewDecoder(io.LimitReader(response.Body, 1<<20)).Decode(&ready)
}
