package proof_test

import (
	"bytes"
	"encoding/json"
	"strings"
	"sync"
	"testing"
)

// records keeps what is logged.
type records struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (r *records) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.buf.Write(p)
}

func (r *records) String() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.buf.String()
}

// find waits for an audit record in which every given key has the given value.
func (r *records) find(t testing.TB, want map[string]any) map[string]any {
	t.Helper()
	var found map[string]any
	eventually(t, "an audit record", func() bool {
		for line := range strings.Lines(r.String()) {
			got := map[string]any{}
			if json.Unmarshal([]byte(line), &got) != nil {
				continue
			}
			matches := true
			for key, value := range want {
				matches = matches && got[key] == value
			}
			if matches {
				found = got
				return true
			}
		}
		return false
	}, func() any { return []any{"want", want, "records", r.String()} })
	return found
}
