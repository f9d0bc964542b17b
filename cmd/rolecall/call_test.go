package main

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"example.com/rolecall/internal/cli"
	"example.com/rolecall/internal/mesh"
)

func TestWrongCallsEndWithTwoAndSayWhy(t *testing.T) {
	t.Parallel()
	const nowhere = "passthrough:///127.0.0.1:1,spiffe://mesh.local/service/"
	eve := strings.Join(operatorFiles(t, "eve"), " ")
	for _, test := range []struct {
		line string
		data string // of -d
		want string
	}{
		{"call a b", "", "arg"},
		{"call ledger/GetBalanse", "", "near it: ledger/GetBalance"},
		{"call nonsense", "", "no method nonsense is known"},
		{"call Transfer", "", "near it: ledger/Transfer"},
		{"cal", "", "near it: call"},
		{"call --sign", "", "no method to call"},
		{"call ledger", "{}", "no method to call"},
		{"call ledger/GetBalance --timeout 0s", "", "--timeout"},
		{"call ledger/GetBalance --cert c", "", "bundle"},
		{"call ledger/GetBalance --cert c --key k --bundle b --as alice", "", "as"},
		{"call ledger/GetBalance --user --token-file f", "", "token-file"},
		{"call ledger/GetBalance --tokens t,spiffe://a.b/t", "", "--user"},
		{"call ledger/GetBalance -H tenant", "", "KEY=VALUE"},
		{"call ledger/GetBalance -H authorization=x", "", "--token-file"},
		{"call ledger/GetBalance -H Authorization:x", "", "--user"},
		{"call ledger/GetBalance -H Authorization:Bearer=x", "", "--user"},
		{"call ledger/GetBalance -H authorization-context=1 -H tenant", "", `"tenant": the form`},
		{"call ledger/GetBalance -H Rolecall-Proof=x", "", "set this themselves"},
		{"call ledger/GetBalance -H grpc-timeout=1S", "", "set this themselves"},
		{"call ledger/GetBalance -d - --token-file -", "", "read once"},
		{"call ledger/GetBalance --role-subset a,b", "", "once for each"},
		{"call ledger/GetBalance --sign --user", "", "user"},
		{"call ledger/Transfer --via orders", "", "--sign too"},
		{"call ledger/Transfer --sign --via spiffe://mesh.local --server " + nowhere + "ledger " + eve, "", "names no workload"},
		{"call ledger/Transfer --sign --via a:b --server " + nowhere + "ledger " + eve, "", "--via a:b"},
		{"call ledger/GetBalance --server ledger,x " + eve, "", "--server"},
		{"call grpc.health.v1.Health/Check " + eve, "", "name one with --server"},
		{"call ledger/WatchEntries --sign --server " + nowhere + "ledger " + eve, "", "is a stream"},
		{"call ledger/GetBalance --sign --server " + nowhere + "ledger " + eve, "", "takes no signed requests"},
		{"call ledger/GetBalance --server " + nowhere + "ledger " + eve, `{"acount_id": "x"}`, "has the fields account_id (string)"},
		{"call ledger/GetBalance --server " + nowhere + "ledger " + eve, `{}{}`, "takes one request"},
		{"call users/Create --server " + nowhere + "users " + eve, `{"password": "correct horse"}`, "password is a secret"},
		{"call orders/PlaceOrder --signed payment --server " + nowhere + "orders " + eve, "", "FIELD=JSON"},
		{"call orders/PlaceOrder --signed payment={} --server " + nowhere + "orders " + eve, "", "no signed request"},
		{"call orders/PlaceOrder --as nobody --dir " + emptyMesh(t), "", "no such operator: it has alice"},
		{"inspect x --bundle b", "", "--cert"},
	} {
		t.Run(test.line+" "+test.data, func(t *testing.T) {
			t.Parallel()
			args := strings.Fields(test.line)
			if test.data != "" {
				args = append(args, "-d", test.data)
			}
			code, stdout, stderr := rolecall(t, args...)
			if code != cli.ExitUsage || !strings.Contains(stderr, test.want) || stdout != "" || strings.Contains(stderr, "correct horse") {
				t.Errorf("code %d and %q, want %d and something with %q", code, stderr, cli.ExitUsage, test.want)
			}
		})
	}
}

func TestCallListsWhatThereIs(t *testing.T) {
	t.Parallel()
	code, stdout, stderr := rolecall(t, "call")
	for _, want := range []string{"METHOD", "REQUIRES", "ledger/Transfer", "orders/PlaceOrder", "orders.writer + user:orders.customer", "ledger.reader, stream of answers", "grpc.health.v1.Health/Check"} {
		if !strings.Contains(stdout, want) {
			t.Errorf("%q is missing: code %d, %s\n%s", want, code, stderr, stdout)
		}
	}
	code, stdout, _ = rolecall(t, "call", "orders", "-o", "json")
	var methods []listed
	if err := json.Unmarshal([]byte(stdout), &methods); err != nil || code != cli.ExitDone || len(methods) < 3 {
		t.Fatalf("code %d, %v, %s", code, err, stdout)
	}
	i := slices.IndexFunc(methods, func(m listed) bool { return m.Method == "orders/PlaceOrder" })
	if i < 0 || methods[i].Full != "/orders.v1.OrdersService/PlaceOrder" || !slices.Equal(methods[i].UserRoles, []string{"orders.customer"}) || methods[i].Requests != "one" {
		t.Errorf("PlaceOrder: got %+v", methods)
	}
}

// emptyMesh returns the folder of a mesh of which nothing runs.
func emptyMesh(t *testing.T) string {
	t.Helper()
	d, err := mesh.Create(t.TempDir())
	if err == nil {
		err = mesh.Write(d, &mesh.File{Services: []mesh.Service{{Name: "ledger"}}, Operators: []mesh.Operator{{Name: "alice"}}})
	}
	if err != nil {
		t.Fatal(err)
	}
	return d.Path()
}

func TestMethodsAreCompleted(t *testing.T) {
	t.Parallel()
	code, stdout, _ := rolecall(t, "__complete", "call", "ledger/Get")
	if code != cli.ExitDone || !strings.Contains(stdout, "ledger/GetBalance\tledger.reader") || strings.Contains(stdout, "Transfer\t") && !strings.Contains(stdout, "GetTransfer") {
		t.Errorf("got %d, %q", code, stdout)
	}
	dir := emptyMesh(t)
	for flag, want := range map[string]string{"--as": "alice\n", "--server": "ledger\n", "--via": "ledger\n", "--role-subset": "ledger.reader\n"} {
		if code, stdout, stderr := rolecall(t, "__complete", "call", "--dir", dir, flag, ""); code != cli.ExitDone || !strings.Contains(stdout, want) {
			t.Errorf("%s: got %d, %q, %q; want %q", flag, code, stdout, stderr, want)
		}
		if code, stdout, _ := rolecall(t, "__complete", "call", "--dir", t.TempDir(), flag, ""); code != cli.ExitDone || flag != "--role-subset" && stdout != ":4\n" {
			t.Errorf("%s without a mesh: got %d, %q", flag, code, stdout)
		}
	}
}

func TestATokenThatOthersMayReadIsNotSent(t *testing.T) {
	t.Parallel()
	open := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(open, []byte("a.b.c\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := readToken(open, nil); err != nil || got != "a.b.c" {
		t.Errorf("got %q, %v", got, err)
	}
	if err := os.Chmod(open, 0o640); err != nil {
		t.Fatal(err)
	}
	if got, err := readToken(open, nil); err == nil || !strings.Contains(err.Error(), "chmod 600") {
		t.Errorf("mode 0640: got %q, %v", got, err)
	}
	for name, text := range map[string]string{"nothing": "", "words": "no token", "two lines": "a.b.c\nd", "too much": "a.b." + strings.Repeat("c", maxToken)} {
		if got, err := readToken("-", strings.NewReader(text)); err == nil || text != "" && strings.Contains(err.Error(), text) {
			t.Errorf("%s: got %q, %v", name, got, err)
		}
	}
}

func TestOfARequestThatIsNotSentNoRequestIDIsTold(t *testing.T) {
	t.Parallel()
	var out, said bytes.Buffer
	a := &app{out: cli.Plain(&out), questions: &said}
	err := a.run(t.Context(), append([]string{"call", "orders/PlaceOrder", "--signed", `pay={"method": "m", "proof": "p"}`,
		"--server", "passthrough:///127.0.0.1:1,spiffe://mesh.local/service/orders"}, operatorFiles(t, "eve")...))
	if err == nil || !strings.Contains(err.Error(), "has no field pay that takes") || said.Len() > 0 {
		t.Errorf("got %v, %q", err, &said)
	}
}

func TestSigningThatIsInterruptedSaysSo(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var out, said bytes.Buffer
	a := &app{out: cli.Plain(&out), questions: &said}
	const nowhere = "passthrough:///127.0.0.1:1,spiffe://mesh.local/service/"
	err := a.run(ctx, append([]string{"call", "ledger/Transfer", "--sign", "--server", nowhere + "ledger", "--keys", nowhere + "keys"}, operatorFiles(t, "eve")...))
	if err == nil || !strings.HasPrefix(err.Error(), "interrupted: ") || out.Len() > 0 {
		t.Errorf("got %v, %q", err, &out)
	}
}

func TestACallThatNobodyAnswersSaysWhatToDo(t *testing.T) {
	t.Parallel()
	var out, said bytes.Buffer
	a := &app{out: cli.Plain(&out), questions: &said}
	args := append([]string{"call", "ledger/OpenAccount", "--timeout", "1m", "--server", "passthrough:///127.0.0.1:1,spiffe://mesh.local/service/ledger"}, operatorFiles(t, "eve")...)
	err := a.run(t.Context(), args)
	for _, want := range []string{"UNAVAILABLE: ", "rolecall status", "spiffe://mesh.local/operator/eve, at spiffe://mesh.local/service/ledger"} {
		if !strings.Contains(said.String(), want) {
			t.Errorf("%q is missing: %v, %s", want, err, &said)
		}
	}
	if err == nil || out.Len() > 0 || strings.Contains(said.String(), "may have taken effect") {
		t.Errorf("got %v, %q, %s; want nothing on standard output, and no word of an effect: nothing was sent", err, &out, &said)
	}
}
