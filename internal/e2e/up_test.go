//go:build unix

package e2e_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	ledgerv1 "example.com/rolecall/gen/ledger/v1"
	usersv1 "example.com/rolecall/gen/users/v1"
	"example.com/rolecall/internal/mesh"
	"example.com/rolecall/internal/node"
)

// One mesh goes through its life; each part leaves it as it found it.
func TestUpFromItsStartToItsEnd(t *testing.T) {
	t.Parallel()
	m := startMesh(t)
	for _, part := range []struct {
		name string
		run  func(*testing.T, *runningMesh)
	}{
		{"a second up says who runs the mesh", testSecondUp},
		{"each operator may do what her roles allow and no more", testOperators},
		{"a role that is taken away ends calls and streams that are open", testRoleTakenAway},
		{"a broken roles.yaml changes nothing and is reported", testBrokenRoles},
		{"a killed service is started again", testKilledService},
		{"a killed agent is started again and knows its processes", testKilledAgent},
		{"run gives a program an identity and passes its exit code on", testRun},
		{"the demo goes as it should", testDemo},
		{"status finds nothing to do", testStatus},
		{"Ctrl-C leaves nothing behind", testInterrupt},
	} {
		if !t.Run(part.name, func(t *testing.T) { part.run(t, m) }) {
			return // what follows would say the same in other words
		}
	}
}

func testSecondUp(t *testing.T, m *runningMesh) {
	out, code := m.rolecall(t, "up", "--base-port", "0")
	if want := fmt.Sprintf("process %d", m.file.PID); code != 1 || !strings.Contains(out, want) {
		t.Errorf("exit code %d, want 1, and %q in:\n%s", code, want, out)
	}
}

func testOperators(t *testing.T, m *runningMesh) {
	source, shop := m.accounts(t)
	ctx := t.Context()
	alice, bob, carol := m.ledger(t, "alice"), m.ledger(t, "bob"), m.ledger(t, "carol")

	_, err := carol.Transfer(ctx, transferOf(source, shop))
	wantRefused(t, "carol transfers", err, codes.PermissionDenied, "ROLE_REQUIRED")
	_, err = bob.Transfer(ctx, transferOf(source, shop))
	wantRefused(t, "bob transfers", err, codes.PermissionDenied, "ROLE_REQUIRED")
	_, err = usersv1.NewUsersServiceClient(m.dial(t, "bob", "users")).Create(ctx, &usersv1.CreateRequest{User: &usersv1.User{Username: "eve"}})
	wantRefused(t, "bob creates a user", err, codes.PermissionDenied, "ROLE_REQUIRED")

	balance, err := bob.GetBalance(ctx, &ledgerv1.GetBalanceRequest{AccountId: shop})
	if err != nil || balance.GetBalance().GetMinorUnits() != 1250 {
		t.Errorf("bob reads the balance: %v, %v; want 1250", balance, err)
	}
	watch(t, bob, shop)
	if _, err := alice.ListEntries(ctx, &ledgerv1.ListEntriesRequest{AccountId: shop}); err != nil {
		t.Errorf("alice lists entries: %v", err)
	}
	if _, err := usersv1.NewUsersServiceClient(m.dial(t, "alice", "users")).Create(ctx, &usersv1.CreateRequest{User: &usersv1.User{Username: "dora"}}); err != nil {
		t.Errorf("alice creates a user: %v", err)
	}
}

// watch opens WatchEntries and reads the first entry, so that the stream is known to be open.
func watch(t *testing.T, client ledgerv1.LedgerServiceClient, account string) ledgerv1.LedgerService_WatchEntriesClient {
	t.Helper()
	stream, err := client.WatchEntries(t.Context(), &ledgerv1.WatchEntriesRequest{AccountId: account})
	if err == nil {
		_, err = stream.Recv()
	}
	if err != nil {
		t.Fatalf("watch entries: %v", err)
	}
	return stream
}

func testRoleTakenAway(t *testing.T, m *runningMesh) {
	_, shop := m.accounts(t)
	bob := m.ledger(t, "bob")
	stream := watch(t, bob, shop)
	ended := make(chan error, 1)
	go func() {
		_, err := stream.Recv()
		ended <- err
	}()

	original := readRoles(t, m)
	t.Cleanup(func() { writeRoles(t, m, original) })
	began := time.Now()
	writeRoles(t, m, strings.Replace(original, "role: ledger.reader\n    members: [spiffe://mesh.local/operator/bob]", "role: ledger.reader\n    members: [spiffe://mesh.local/operator/nobody]", 1))
	select {
	case err := <-ended:
		t.Logf("the open stream ended %s after the role was taken away", time.Since(began).Round(time.Millisecond))
		wantRefused(t, "bob's open stream", err, codes.PermissionDenied, "ROLE_REQUIRED")
	case <-time.After(patience):
		t.Fatalf("the stream is still open %s after the role was taken away", patience)
	}
	_, err := bob.GetBalance(t.Context(), &ledgerv1.GetBalanceRequest{AccountId: shop})
	wantRefused(t, "bob's next call on the open connection", err, codes.PermissionDenied, "ROLE_REQUIRED")

	writeRoles(t, m, original)
	eventually(t, "bob may read again", func() error {
		_, err := bob.GetBalance(t.Context(), &ledgerv1.GetBalanceRequest{AccountId: shop})
		return err
	})
}

func testBrokenRoles(t *testing.T, m *runningMesh) {
	_, shop := m.accounts(t)
	bob := m.ledger(t, "bob")
	original := readRoles(t, m)
	before := readiness(t, m, "ledger").Policy.Version
	t.Cleanup(func() { writeRoles(t, m, original) })
	writeRoles(t, m, "trustDomain: mesh.local\nbindngs: []\n")
	eventually(t, "/readyz names the mistake", func() error {
		policy := readiness(t, m, "ledger").Policy
		if policy.Version != before {
			t.Fatalf("policy %s is in force, want still %s", policy.Version, before)
		}
		if !strings.Contains(policy.Error, "bindngs") {
			return fmt.Errorf("policy error %q", policy.Error)
		}
		return nil
	})
	if _, err := bob.GetBalance(t.Context(), &ledgerv1.GetBalanceRequest{AccountId: shop}); err != nil {
		t.Errorf("bob's roles are gone with a broken file: %v", err)
	}
	if out, code := m.rolecall(t, "status"); code != 1 || !strings.Contains(out, "bindngs") {
		t.Errorf("status: exit code %d, want 1, and the mistake in:\n%s", code, out)
	}
	writeRoles(t, m, original)
	eventually(t, "/readyz has nothing to say", func() error {
		if policy := readiness(t, m, "ledger").Policy; policy.Error != "" {
			return errors.New(policy.Error)
		}
		return nil
	})
}

func testKilledService(t *testing.T, m *runningMesh) {
	_, shop := m.accounts(t)
	killed, _ := m.file.Service("ledger")
	kill(t, killed.PID, syscall.SIGKILL)
	eventually(t, "mesh.json has the new process", func() error {
		m.reread(t)
		now, _ := m.file.Service("ledger")
		if now.PID == killed.PID || now.Restarts != killed.Restarts+1 {
			return fmt.Errorf("process %d, restarts %d", now.PID, now.Restarts)
		}
		return nil
	})
	balance, err := m.ledger(t, "bob").GetBalance(t.Context(), &ledgerv1.GetBalanceRequest{AccountId: shop})
	if err != nil || balance.GetBalance().GetMinorUnits() != 1250 {
		t.Errorf("the balance after the crash: %v, %v; want 1250", balance, err)
	}
}

func testKilledAgent(t *testing.T, m *runningMesh) {
	killed := m.file.Agent.PID
	kill(t, killed, syscall.SIGKILL)
	eventually(t, "mesh.json has the new agent", func() error {
		m.reread(t)
		if m.file.Agent.PID == killed {
			return errors.New("still the old one")
		}
		return nil
	})
	eventually(t, "a service that starts now gets its certificate", func() error {
		if out, code := m.rolecall(t, "run", "--id", "spiffe://mesh.local/service/billing", "--", "true"); code != 0 {
			return errors.New(out)
		}
		return nil
	})
	orders, _ := m.file.Service("orders")
	kill(t, orders.PID, syscall.SIGKILL)
	eventually(t, "orders is back under the new agent", func() error {
		m.reread(t)
		if now, _ := m.file.Service("orders"); now.PID == orders.PID {
			return errors.New("still the old one")
		}
		return nil
	})
}

func testRun(t *testing.T, m *runningMesh) {
	ledger, _ := m.file.Service("ledger")
	out, code := m.rolecall(t, "run", "--id", "spiffe://mesh.local/service/billing", "--", m.program, "probe", ledger.Address, "--id", ledger.ID)
	if code != 0 || !strings.Contains(out, "SERVING") {
		t.Errorf("a probe inside the mesh: exit code %d, want 0 and SERVING:\n%s", code, out)
	}
	if out, code := m.rolecall(t, "run", "--id", "spiffe://mesh.local/service/billing", "--", "sh", "-c", "exit 7"); code != 7 {
		t.Errorf("exit code %d, want that of the program, 7:\n%s", code, out)
	}
	if out, code := m.rolecall(t, "run", "--id", "spiffe://mesh.local/service/billing", "--", "grep", "-c", "service/billing", filepath.Join(m.dir, "mesh.json")); code != 0 {
		t.Errorf("mesh.json does not list a program while it runs: %s", out)
	}
	if m.reread(t); len(m.file.Programs) != 0 {
		t.Errorf("mesh.json still lists %v", m.file.Programs)
	}
}

func testDemo(t *testing.T, m *runningMesh) {
	before := readRoles(t, m)
	out, code := m.rolecall(t, "demo")
	if code != 0 {
		t.Errorf("exit code %d:\n%s", code, out)
	}
	if after := readRoles(t, m); after != before {
		t.Errorf("roles.yaml after the demo:\n%s\nwant:\n%s", after, before)
	}
}

func testStatus(t *testing.T, m *runningMesh) {
	if out, code := m.rolecall(t, "status"); code != 0 {
		t.Errorf("exit code %d, want 0:\n%s", code, out)
	}
	out, code := m.rolecall(t, "status", "-o", "json")
	if code != 0 || !json.Valid([]byte(out)) {
		t.Errorf("status -o json: exit code %d, want 0 and JSON:\n%s", code, out)
	}
}

func testInterrupt(t *testing.T, m *runningMesh) {
	pids := m.pids()
	kill(t, m.file.PID, syscall.SIGINT)
	eventually(t, "every process is gone", func() error { return gone(pids) })
	for _, name := range []string{"mesh.json", "agent.sock", "control.sock"} {
		if _, err := os.Stat(filepath.Join(m.dir, name)); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s is left: %v", name, err)
		}
	}
	if out, code := m.rolecall(t, "status"); code != 1 {
		t.Errorf("status of a mesh that is down: exit code %d, want 1:\n%s", code, out)
	}
}

func TestAMeshWhoseUpWasKilledLeavesNoProcessAndStartsAgainWithItsRoot(t *testing.T) {
	t.Parallel()
	m := startMesh(t)
	_, shop := m.accounts(t)
	root, err := os.ReadFile(m.file.Bundle)
	if err != nil {
		t.Fatal(err)
	}
	pids := m.pids()
	kill(t, m.file.PID, syscall.SIGKILL)
	eventually(t, "every process is gone", func() error { return gone(pids) })

	again := bringUp(t, m.program, m.dir, nil)
	if now, err := os.ReadFile(again.file.Bundle); err != nil || string(now) != string(root) {
		t.Errorf("the root changed: %v", err)
	}
	balance, err := again.ledger(t, "bob").GetBalance(t.Context(), &ledgerv1.GetBalanceRequest{AccountId: shop})
	if err != nil || balance.GetBalance().GetMinorUnits() != 1250 {
		t.Errorf("the balance after the restart: %v, %v; want 1250", balance, err)
	}
}

func (m *runningMesh) reread(t *testing.T) {
	t.Helper()
	d, err := mesh.Open(m.dir)
	if err != nil {
		t.Fatal(err)
	}
	if m.file, err = mesh.Read(d); err != nil {
		t.Fatal(err)
	}
}

// pids returns up and everything that it started.
func (m *runningMesh) pids() []int {
	pids := []int{m.file.PID, m.file.Agent.PID}
	for _, s := range m.file.Services {
		pids = append(pids, s.PID)
	}
	return pids
}

func gone(pids []int) error {
	for _, pid := range pids {
		// One that ended and has no parent any more may wait for init as a zombie.
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err == nil && strings.Contains(string(stat), ") Z ") {
			continue
		}
		if mesh.Alive(pid) {
			return fmt.Errorf("process %d still runs", pid)
		}
	}
	return nil
}

func kill(t *testing.T, pid int, signal syscall.Signal) {
	t.Helper()
	if err := syscall.Kill(pid, signal); err != nil {
		t.Fatalf("send %s to process %d: %v", signal, pid, err)
	}
}

func readRoles(t *testing.T, m *runningMesh) string {
	t.Helper()
	data, err := os.ReadFile(m.file.Roles)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func writeRoles(t *testing.T, m *runningMesh, text string) {
	t.Helper()
	if err := os.WriteFile(m.file.Roles, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func readiness(t *testing.T, m *runningMesh, service string) node.Readiness {
	t.Helper()
	s, _ := m.file.Service(service)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.Admin+"/readyz", nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatalf("ask %s whether it is ready: %v", service, err)
	}
	defer response.Body.Close()
	var r node.Readiness
	if err := json.NewDecoder(response.Body).Decode(&r); err != nil {
		t.Fatalf("/readyz of %s: %v", service, err)
	}
	return r
}

