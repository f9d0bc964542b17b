package rootrotation

import (
	"strings"
	"testing"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

// gRPC asks one server of several behind a name, and the answer of that one must not stand for all.
func TestAttackATargetThatHidesServersBehindOneName(t *testing.T) {
	t.Parallel()
	id := spiffeid.RequireFromString(ledgerID)
	for target, want := range map[string]string{ // "" if it is refused
		"dns:///localhost:7445":           "passthrough:///127.0.0.1:7445",
		"passthrough:///127.0.0.1:7445":   "passthrough:///127.0.0.1:7445",
		"127.0.0.1:7445":                  "127.0.0.1:7445",
		"[::1]:7445":                      "[::1]:7445",
		"unix:/run/ledger.sock":           "unix:/run/ledger.sock",
		"localhost:7445":                  "",
		"dns:localhost:7445":              "",
		"dns://127.0.0.53/localhost:7445": "",
		"passthrough:///ledger:7445":      "",
		"xds:///ledger":                   "",
		"":                                "",
	} {
		got, err := each(t.Context(), []Peer{{Target: target, ID: id}})
		switch {
		case want == "" && (err == nil || !strings.Contains(err.Error(), "write dns:///HOST:PORT")):
			t.Errorf("%q: %v, %v; want a refusal that says how to write it", target, got, err)
		case want != "" && (err != nil || len(got) != 1 || got[0].Target != want):
			t.Errorf("%q: %v, %v; want %s", target, got, err, want)
		}
	}
}
