package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"example.com/rolecall/internal/cli"
	"example.com/rolecall/internal/node/nodetest"
)

// must runs a command line that is to succeed, and returns what it wrote.
func (m *meshUp) must(t *testing.T, args ...string) string {
	t.Helper()
	code, stdout, stderr := m.run(t, append(args, "--dir", m.dir)...)
	if code != cli.ExitDone {
		t.Fatalf("%s: %d, %s", strings.Join(args, " "), code, stderr)
	}
	return stdout
}

// open opens an account and returns its ID.
func (m *meshUp) open(t *testing.T, request string, args ...string) string {
	t.Helper()
	var answer struct {
		Account struct {
			ID string `json:"account_id"`
		}
	}
	out := m.must(t, append([]string{"call", "ledger/OpenAccount", "-o", "json", "-d", request}, args...)...)
	if err := json.Unmarshal([]byte(out), &answer); err != nil || answer.Account.ID == "" {
		t.Fatalf("%v: %s", err, out)
	}
	return answer.Account.ID
}

func transferJSON(from, to string, units int) string {
	return fmt.Sprintf(`{"from_account": "%s", "to_account": "%s", "amount": {"currency": "EUR", "minor_units": %d}}`, from, to, units)
}

func TestMethodsAreCalledFromTheCommandLine(t *testing.T) {
	t.Parallel()
	m := bringUp(t)
	from, to := m.open(t, `{"currency": "EUR", "allow_negative": true}`), m.open(t, `{"currency": "EUR"}`)
	dir := func(args ...string) []string { return append(args, "--dir", m.dir) }

	t.Run("a request with a proof, which is told its request_id, and repeated has the same answer", func(t *testing.T) {
		code, first, said := m.run(t, dir("call", "ledger/Transfer", "-o", "json", "-d", transferJSON(from, to, 5))...)
		id, ok := strings.CutPrefix(strings.TrimSpace(said), "request_id ")
		if code != cli.ExitDone || !ok {
			t.Fatalf("%d, %s, %s", code, first, said)
		}
		request := strings.TrimSuffix(transferJSON(from, to, 5), "}") + `, "request_id": "` + id + `"}`
		code, again, said := m.run(t, dir("call", "ledger/Transfer", "-o", "json", "-d", request)...)
		if code != cli.ExitDone || again != first || said != "" {
			t.Errorf("again: %d, %s, want\n%s%s", code, again, first, said)
		}
		other := strings.Replace(request, ": 5", ": 6", 1)
		if code, _, said := m.run(t, dir("call", "ledger/Transfer", "-d", other)...); code != cli.ExitFailed || !strings.Contains(said, "REQUEST_ID_REUSED") {
			t.Errorf("another request: %d, %s", code, said)
		}
	})
	t.Run("a stream of answers, until Ctrl-C", func(t *testing.T) {
		cmd := exec.CommandContext(t.Context(), m.program, dir("call", "ledger/WatchEntries", "--as", "bob", "-o", "json", "-d", `{"account_id": "`+from+`"}`)...)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		defer time.AfterFunc(time.Minute, func() { _ = cmd.Process.Kill() }).Stop()
		line, err := bufio.NewReader(out).ReadString('\n')
		if err != nil || !strings.Contains(line, `"minor_units":"-5"`) {
			t.Errorf("got %q, %v", line, err)
		}
		if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
			t.Fatal(err)
		}
		if err := cmd.Wait(); err != nil {
			t.Errorf("after Ctrl-C: %v", err)
		}
	})
	t.Run("a stream of requests out of a file", func(t *testing.T) {
		file := secretFile(t, transferJSON(from, to, 1)+"\n"+transferJSON(from, to, 2))
		if out := m.must(t, "call", "ledger/ImportEntries", "-d", "@"+file); !strings.Contains(out, `"imported": "2"`) {
			t.Errorf("got %s", out)
		}
	})
	t.Run("with fewer roles than the caller holds", func(t *testing.T) {
		code, _, said := m.run(t, dir("call", "ledger/GetBalance", "--role-subset", "orders.raeder", "-d", `{"account_id": "x"}`)...)
		for _, want := range []string{"ROLE_REQUIRED", "narrowed", "gave this role up, with --role-subset", "no service that is known here defines this role"} {
			if code != cli.ExitFailed || !strings.Contains(said, want) {
				t.Errorf("%d, %q is missing: %s", code, want, said)
			}
		}
	})
	t.Run("refused, for programs", func(t *testing.T) {
		code, out, said := m.run(t, dir("call", "ledger/OpenAccount", "--as", "carol", "-o", "json")...)
		var answer struct {
			Error struct {
				Code    string
				Details []struct{ Reason string }
			}
		}
		if err := json.Unmarshal([]byte(out), &answer); err != nil || code != cli.ExitFailed || answer.Error.Code != "PERMISSION_DENIED" || len(answer.Error.Details) == 0 || answer.Error.Details[0].Reason != "ROLE_REQUIRED" {
			t.Errorf("%d, %v, %s%s", code, err, out, said)
		}
	})
	t.Run("of a server that nobody told this program of", func(t *testing.T) {
		if out := m.must(t, "call", "--server", "orders"); !strings.Contains(out, "orders.v1.OrdersService/PlaceOrder") {
			t.Errorf("got %s", out)
		}
		code, _, said := m.run(t, dir("call", "--server", "orders", "--as", "carol")...)
		if code != cli.ExitFailed || !strings.Contains(said, "rolecall.reflector") {
			t.Errorf("carol: %d, %s", code, said)
		}
	})
	t.Run("as a workload of the Workload API", func(t *testing.T) {
		code, _, said := m.run(t, "run", "--dir", m.dir, "--id", "spiffe://mesh.local/service/billing", "--", m.program, "call", "ledger/GetBalance", "--dir", m.dir)
		if code != cli.ExitFailed || !strings.Contains(said, "called as    spiffe://mesh.local/service/billing, at spiffe://mesh.local/service/ledger") {
			t.Errorf("%d, %s", code, said)
		}
	})
	t.Run("on behalf of a user, with a payment that somebody else has signed", func(t *testing.T) { m.relayed(t, to) })
}

// verified waits until the service of a method verifies users: in a mesh that has just come up it may not do so yet.
func (m *meshUp) verified(t *testing.T, method string) {
	t.Helper()
	for began := time.Now(); ; {
		_, _, said := m.run(t, "call", method, "--user", "--dir", m.dir)
		if !strings.Contains(said, "VERIFIER_UNAVAILABLE") {
			return
		}
		if time.Since(began) > nodetest.Patience {
			t.Fatalf("%s: %s", method, said)
		}
	}
}

// relayed has alice sign a payment, and bob place an order with it on behalf of dave.
func (m *meshUp) relayed(t *testing.T, shop string) {
	if code, _, said := m.first(t, "login", "dave", "--as", "bob", "--password-file", secretFile(t, m.password(t, "dave")), "--dir", m.dir); code != cli.ExitDone {
		t.Fatalf("login: %d, %s", code, said)
	}
	m.verified(t, "users/GetSelf")
	m.verified(t, "orders/PlaceOrder")
	if out := m.must(t, "call", "users/GetSelf", "--user"); !strings.Contains(out, `"username": "dave"`) {
		t.Errorf("GetSelf: %s", out)
	}
	purse := m.open(t, `{"currency": "EUR", "allow_negative": true}`)
	order := fmt.Sprintf(`{"item": "a book", "price": {"currency": "EUR", "minor_units": 7}, "paying_account": "%s", "receiving_account": "%s"}`, purse, shop)
	alice, _ := m.file.Operator("alice")
	sign := func() string {
		return secretFile(t, m.must(t, "call", "ledger/Transfer", "--sign", "--via", "orders", "-d", transferJSON(purse, shop, 7)))
	}
	place := func(payment string) (int, string, string) {
		return m.run(t, "call", "orders/PlaceOrder", "--user", "--signed", "payment=@"+payment, "-d", order, "--dir", m.dir)
	}
	signed := sign()
	code, out, said := m.run(t, "inspect", signed, "--cert", alice.Cert, "--bundle", m.file.Bundle)
	for _, want := range []string{"request that a workload signed", purse, "holds, by spiffe://mesh.local/operator/alice", "these are the bytes at hand", "NOT VERIFIED   whether it was used before"} {
		if code != cli.ExitDone || !strings.Contains(out, want) {
			t.Errorf("inspect: %d, %q is missing in\n%s%s", code, want, out, said)
		}
	}
	code, out, said = place(signed)
	if code != cli.ExitDone || !strings.Contains(out, "STATE_PAID") || !strings.Contains(said, "payment: the receipt holds") {
		t.Fatalf("PlaceOrder: %d, %s%s", code, out, said)
	}
	keys := secretFile(t, m.must(t, "call", "keys/GetKeys", "-d", `{"spiffe_id": "spiffe://mesh.local/service/ledger"}`))
	code, out, said = m.run(t, "inspect", secretFile(t, out), "--cert", keys, "--bundle", m.file.Bundle)
	for _, want := range []string{"member         payment", "receipt (a signed answer)", "ledger.v1.TransferResponse", "holds, by spiffe://mesh.local/service/ledger"} {
		if code != cli.ExitDone || !strings.Contains(out, want) {
			t.Errorf("inspect the answer: %d, %q is missing in\n%s%s", code, want, out, said)
		}
	}

	changed := filepath.Join(t.TempDir(), "changed")
	text, err := os.ReadFile(sign())
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(changed, []byte(strings.Replace(string(text), `"request": "`, `"request": "EgE3`, 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	if code, out, _ := m.run(t, "inspect", changed); code != cli.ExitFailed || !strings.Contains(out, "about another request") {
		t.Errorf("inspect a changed one: %d, %s", code, out)
	}
	if code, out, said := place(changed); code == cli.ExitDone && strings.Contains(out, "STATE_PAID") || strings.Contains(said, "the receipt holds") {
		t.Errorf("a changed payment: %d, %s%s", code, out, said)
	}
}
