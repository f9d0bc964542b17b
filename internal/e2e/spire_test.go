//go:build unix

package e2e_test

import (
	"context"
	"crypto/x509"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	workloadpb "github.com/spiffe/go-spiffe/v2/proto/spiffe/workload"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	ledgerv1 "example.com/rolecall/gen/ledger/v1"
	ordersv1 "example.com/rolecall/gen/orders/v1"
	tokensv1 "example.com/rolecall/gen/tokens/v1"
	usersv1 "example.com/rolecall/gen/users/v1"
	"example.com/rolecall/interceptors"
	"example.com/rolecall/internal/mesh"
	"example.com/rolecall/rolecalltest"
)

// otherAPI is a Workload API that is not ours, with identities that are not named as ours are: it offers every process
// all of them, and it is for the process to pick.
type otherAPI struct {
	workloadpb.UnimplementedSpiffeWorkloadAPIServer
	t  *testing.T
	ca *rolecalltest.CA
}

var otherPaths = []string{"/ns/shop/sa/users", "/ns/shop/sa/tokens", "/ns/shop/sa/ledger", "/ns/shop/sa/orders"}

func (w otherAPI) FetchX509SVID(_ *workloadpb.X509SVIDRequest, stream grpc.ServerStreamingServer[workloadpb.X509SVIDResponse]) error {
	if header, _ := metadata.FromIncomingContext(stream.Context()); len(header.Get("workload.spiffe.io")) != 1 {
		return status.Error(codes.InvalidArgument, "security header missing")
	}
	answer := &workloadpb.X509SVIDResponse{}
	for _, path := range otherPaths {
		cert, key := w.ca.Issue(path)
		der, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			return err
		}
		answer.Svids = append(answer.Svids, &workloadpb.X509SVID{SpiffeId: w.ca.ID(path).String(), X509Svid: cert.Raw, X509SvidKey: der, Bundle: w.ca.Root().Raw})
	}
	if err := stream.Send(answer); err != nil {
		return err
	}
	<-stream.Context().Done()
	return nil
}

func (w otherAPI) FetchX509Bundles(_ *workloadpb.X509BundlesRequest, stream grpc.ServerStreamingServer[workloadpb.X509BundlesResponse]) error {
	if err := stream.Send(&workloadpb.X509BundlesResponse{Bundles: map[string][]byte{"spiffe://example.org": w.ca.Root().Raw}}); err != nil {
		return err
	}
	<-stream.Context().Done()
	return nil
}

const otherRoles = `trustDomain: example.org
bindings:
  - role: users.reader
    members: [spiffe://example.org/ns/shop/sa/orders]
  - role: ledger.writer
    members: [spiffe://example.org/ns/shop/sa/orders]
  - role: users.verifier
    members: [spiffe://example.org/ns/shop/sa/tokens]
  - role: tokens.verifier
    members: ["spiffe://example.org/ns/shop/sa/*"]
  - role: users.admin
    members: [spiffe://example.org/ns/ops/sa/admin]
  - role: tokens.login
    members: [spiffe://example.org/ns/ops/sa/admin]
  - role: ledger.admin
    members: [spiffe://example.org/ns/ops/sa/admin]
  - role: orders.writer
    members: [spiffe://example.org/ns/ops/sa/admin]
`

// TestServicesRunOnAnotherWorkloadAPI runs the sample services as SPIRE would have them: no agent and no authority of
// ours is in sight, the binaries are the same.
func TestServicesRunOnAnotherWorkloadAPI(t *testing.T) {
	t.Parallel()
	ca := rolecalltest.NewCA(t, "example.org")
	dir := shortTempDir(t)
	socket := filepath.Join(dir, "api.sock")
	lis, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	api := grpc.NewServer()
	workloadpb.RegisterSpiffeWorkloadAPIServer(api, otherAPI{t: t, ca: ca})
	go func() { _ = api.Serve(lis) }()
	t.Cleanup(api.Stop)

	roles := filepath.Join(dir, "roles.yaml")
	if err := os.WriteFile(roles, []byte(otherRoles), 0o600); err != nil {
		t.Fatal(err)
	}
	program := buildRolecall(t)
	addresses := map[string]string{}
	peers := map[string][]string{"users": {"tokens"}, "tokens": {"users"}, "ledger": {"tokens"}, "orders": {"users", "tokens", "ledger"}}
	for name := range peers {
		addresses[name] = freeAddress(t)
	}
	logs := map[string]*process{}
	for name := range peers {
		args := []string{"serve", name, "--id", ca.ID("/ns/shop/sa/" + name).String(), "--listen", addresses[name],
			"--admin", freeAddress(t), "--roles", roles, "--data", filepath.Join(dir, name), "--audit-allowed"}
		for _, peer := range peers[name] {
			args = append(args, "--peer", fmt.Sprintf("%s=dns:///%s,%s", peer, addresses[peer], ca.ID("/ns/shop/sa/"+peer)))
		}
		logs[name] = startProcess(t, program, []string{"SPIFFE_ENDPOINT_SOCKET=unix://" + socket}, args...)
	}

	guard, err := interceptors.New(ca.Source("/ns/ops/sa/admin"), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = guard.Close() })
	dial := func(name string) *grpc.ClientConn {
		id, err := spiffeid.FromString(ca.ID("/ns/shop/sa/" + name).String())
		if err != nil {
			t.Fatal(err)
		}
		conn, err := guard.NewClient(addresses[name], id, grpc.WithDefaultCallOptions(grpc.WaitForReady(true)))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		return conn
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	dora := &usersv1.User{Username: "dora", DisplayName: "Dora", Roles: []string{"orders.customer"}}
	const password = "only for this test"
	if _, err := usersv1.NewUsersServiceClient(dial("users")).Create(ctx, &usersv1.CreateRequest{User: dora, Password: password}); err != nil {
		t.Fatalf("create a user: %v", err)
	}
	tokens := tokensv1.NewTokensServiceClient(dial("tokens"))
	var session *tokensv1.LoginResponse
	await(t, "dora is logged in", func() (err error) {
		session, err = tokens.Login(ctx, &tokensv1.LoginRequest{Username: "dora", Password: password})
		return comeAgain(t, err)
	})
	ledger := ledgerv1.NewLedgerServiceClient(dial("ledger"))
	open := func(owner string, negative bool) string {
		account, err := ledger.OpenAccount(ctx, &ledgerv1.OpenAccountRequest{Owner: owner, Currency: "EUR", AllowNegative: negative})
		if err != nil {
			t.Fatalf("open an account: %v", err)
		}
		return account.GetAccount().GetAccountId()
	}
	paying, receiving := open("user:dora", true), open("", false)
	var placed *ordersv1.PlaceOrderResponse
	orders := ordersv1.NewOrdersServiceClient(dial("orders"))
	await(t, "orders knows who is revoked", func() error { // it has just started
		_, err := orders.ListOrders(interceptors.AsUser(ctx, session.GetTokens().GetAccessToken()), &ordersv1.ListOrdersRequest{})
		return err
	})
	placed, err = orders.PlaceOrder(interceptors.AsUser(ctx, session.GetTokens().GetAccessToken()), &ordersv1.PlaceOrderRequest{
		Item: "a lamp", Price: &ledgerv1.Money{Currency: "EUR", MinorUnits: 4200}, PayingAccount: paying, ReceivingAccount: receiving,
	})
	if err != nil {
		t.Fatalf("place an order: %v", err)
	}
	if placed.GetOrder().GetState() != ordersv1.Order_STATE_PAID {
		t.Fatalf("the order is %v", placed.GetOrder())
	}
	balance, err := ledger.GetBalance(ctx, &ledgerv1.GetBalanceRequest{AccountId: receiving})
	if err != nil || balance.GetBalance().GetMinorUnits() != 4200 {
		t.Fatalf("the balance is %v, %v", balance, err)
	}
	// Each of the two says who called it, and for whom.
	for name, want := range map[string]callRecord{
		"orders": {"/orders.v1.OrdersService/PlaceOrder", ca.ID("/ns/ops/sa/admin").String(), "dora"},
		"ledger": {"/ledger.v1.LedgerService/Transfer", ca.ID("/ns/shop/sa/orders").String(), "dora"},
	} {
		await(t, "the audit record of "+name+" names workload and user", func() error { return hasRecord(content(logs[name].log), want) })
	}
}

// shortTempDir is a folder whose path leaves room for the name of a socket.
func shortTempDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "rolecall")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// freeAddress is one that nobody else is given until the end of the test.
func freeAddress(t *testing.T) string {
	t.Helper()
	ports, release, err := mesh.FreePorts(1)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(release)
	return mesh.Use{Port: ports[0]}.Address()
}
