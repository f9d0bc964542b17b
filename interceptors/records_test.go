package interceptors_test

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// records keeps audit records as what they are on disk: JSON lines.
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

// find waits for a record in which every given key has the given value.
func (r *records) find(t *testing.T, want map[string]any) map[string]any {
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

// refused checks code and reason of a refusal and returns the metadata of its ErrorInfo.
func refused(t *testing.T, err error, code codes.Code, reason string) map[string]string {
	t.Helper()
	if status.Code(err) != code {
		t.Fatalf("got %v, want code %s and reason %s", err, code, reason)
	}
	for _, detail := range status.Convert(err).Details() {
		if info, ok := detail.(*errdetails.ErrorInfo); ok && info.Domain == "rolecall" {
			if info.Reason != reason {
				t.Fatalf("got reason %s, want %s", info.Reason, reason)
			}
			return info.Metadata
		}
	}
	if reason != "" {
		t.Fatalf("got no ErrorInfo in %v, want reason %s", err, reason)
	}
	return nil
}

func jsonTo(r *records) slog.Handler { return slog.NewJSONHandler(r, nil) }

func textTo(r *records) *slog.Logger { return slog.New(slog.NewTextHandler(r, nil)) }

func refusedWith(err error) codes.Code { return status.Code(err) }
