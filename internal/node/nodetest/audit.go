package nodetest

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"sync"
	"testing"
	"time"

	"example.com/rolecall/internal/node"
)

// Audit keeps the audit records of services. Safe for concurrent use.
type Audit struct {
	mu   sync.Mutex
	text bytes.Buffer
}

// Write implements io.Writer.
func (a *Audit) Write(p []byte) (int, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.text.Write(p)
}

// Text returns all records, a JSON object on each line.
func (a *Audit) Text() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.text.String()
}

// Keep is a change of a configuration that has the records kept here, those of allowed calls too.
func (a *Audit) Keep(cfg *node.Config) {
	cfg.Audit, cfg.AuditAllowed = slog.NewJSONHandler(a, nil), true
}

// Wait waits for a record that is as wanted, and returns it: records are written after the calls that they are of.
func (a *Audit) Wait(t *testing.T, what string, is func(record map[string]any) bool) map[string]any {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for began := time.Now(); ; <-tick.C {
		for line := range bytes.Lines([]byte(a.Text())) {
			var record map[string]any
			if err := json.Unmarshal(line, &record); err != nil {
				t.Fatalf("audit record %q: %v", line, err)
			}
			if is(record) {
				return record
			}
		}
		if time.Since(began) > Patience {
			t.Fatalf("no record of %s within %s:\n%s", what, Patience, a.Text())
		}
	}
}
