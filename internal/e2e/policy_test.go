//go:build unix

package e2e_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"

	ledgerv1 "example.com/rolecall/gen/ledger/v1"
	"example.com/rolecall/internal/mesh"
)

// bobsRole is how the sample bindings let bob read the ledger.
const bobsRole = "  - role: ledger.reader\n    members: [spiffe://mesh.local/operator/bob]\n"

func TestEditingRolesTakesEffectOnOpenConnectionsAndStreams(t *testing.T) {
	t.Parallel()
	running := startMesh(t)
	admin := running.caller(t, "alice").ledger(t)
	from, to := openAccounts(t, admin, "")
	pay(t, admin, from, to, 100)
	bob := running.caller(t, "bob").ledger(t)
	balance := func() error {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		_, err := bob.GetBalance(ctx, &ledgerv1.GetBalanceRequest{AccountId: to})
		return err
	}
	if err := balance(); err != nil {
		t.Fatalf("bob, who may read: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	stream, err := bob.WatchEntries(ctx, &ledgerv1.WatchEntriesRequest{AccountId: to})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); err != nil {
		t.Fatalf("the first entry: %v", err)
	}
	original, err := os.ReadFile(running.file.Roles)
	if err != nil {
		t.Fatal(err)
	}
	without := strings.Replace(string(original), bobsRole, "", 1)
	if without == string(original) {
		t.Fatalf("the sample bindings do not have:\n%s", bobsRole)
	}
	refused := verdict{codes.PermissionDenied, "ROLE_REQUIRED", "ledger.reader"}

	ended := make(chan time.Duration, 1)
	edited := time.Now()
	writeRoles(t, running, without)
	go func() {
		_, err = stream.Recv()
		ended <- time.Since(edited)
	}()
	await(t, "the next call on the open connection is refused", func() error {
		if got := verdictOf(balance()); got != refused {
			return fmt.Errorf("got %+v", got)
		}
		return nil
	})
	select {
	case took := <-ended:
		t.Logf("the open stream ended: after %s", took.Round(time.Millisecond))
		if diff := cmp.Diff(refused, verdictOf(err)); diff != "" {
			t.Errorf("end of the stream, %v (-want +got):\n%s", err, diff)
		}
	case <-time.After(patience):
		t.Fatalf("the open stream goes on after %s", patience)
	}

	before := readyz(t, running)
	if before.Policy.Error != "" {
		t.Fatalf("the new bindings are not in force: %s", before.Policy.Error)
	}
	// What would give bob his role back, and more, if only a part of it were believed.
	writeRoles(t, running, string(original)+"surprise: true\n")
	await(t, "a broken file is reported by /readyz", func() error {
		switch now := readyz(t, running); {
		case now.Policy.Error == "":
			return errors.New("/readyz has no error of the policy")
		case now.Policy.Version != before.Policy.Version:
			t.Fatalf("the policy is %s, it was %s", now.Policy.Version, before.Policy.Version)
		case !strings.Contains(now.Policy.Error, "surprise"):
			return fmt.Errorf("the error does not name what is wrong: %s", now.Policy.Error)
		}
		return nil
	})
	await(t, "a broken file is reported in the log", func() error {
		for _, line := range logLines(running, "ledger") {
			if strings.Contains(line, "the bindings were not taken over") && strings.Contains(line, "surprise") {
				return nil
			}
		}
		return errors.New("the log says nothing")
	})
	if got := verdictOf(balance()); got != refused {
		t.Errorf("with a broken file bob is told %+v, want %+v as before", got, refused)
	}
	pay(t, admin, from, to, 100) // and alice may what she may

	writeRoles(t, running, string(original))
	await(t, "the role is back", balance)
	await(t, "the error is gone", func() error {
		if now := readyz(t, running); now.Policy.Error != "" {
			return errors.New(now.Policy.Error)
		}
		return nil
	})
}

// writeRoles replaces roles.yaml in one step.
func writeRoles(t *testing.T, m *runningMesh, text string) {
	t.Helper()
	if err := mesh.WriteFile(m.file.Roles, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// readiness is what the tests look at of /readyz.
type readiness struct {
	Ready  bool
	Policy struct{ Version, Error string }
}

func readyz(t *testing.T, m *runningMesh) readiness {
	t.Helper()
	var r readiness
	if err := json.Unmarshal([]byte(adminGet(t, m.service(t, "ledger"), "/readyz")), &r); err != nil {
		t.Fatalf("/readyz: %v", err)
	}
	return r
}
