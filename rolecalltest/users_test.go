package rolecalltest_test

import (
	"context"
	"log/slog"
	"net"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/status"

	usersv1 "example.com/rolecall/gen/users/v1"
	"example.com/rolecall/interceptors"
	"example.com/rolecall/rolecalltest"
)

// self is a service that tells users who they are.
type self struct {
	usersv1.UnimplementedUsersServiceServer
}

func (self) GetSelf(ctx context.Context, _ *usersv1.GetSelfRequest) (*usersv1.GetSelfResponse, error) {
	user, _ := interceptors.CallerFrom(ctx).User()
	return &usersv1.GetSelfResponse{User: &usersv1.User{Username: user.Subject()}, Roles: user.Roles()}, nil
}

func TestAServiceIsTestedWithUsersThatATestNames(t *testing.T) {
	t.Parallel()
	ca := rolecalltest.NewCA(t, "mesh.local")
	users := rolecalltest.NewUsers(ca)
	quiet := []interceptors.Option{interceptors.Audit(slog.DiscardHandler), interceptors.Logger(slog.New(slog.DiscardHandler))}
	guard, err := interceptors.New(ca.Source("/service/users"), interceptors.BindingsYAML([]byte("trustDomain: mesh.local\n")),
		append(quiet, interceptors.With(users.Feature()), interceptors.With(once(t)))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = guard.Close() })
	server := guard.NewServer()
	usersv1.RegisterUsersServiceServer(server, self{})
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = server.Serve(lis) }()
	caller, err := interceptors.New(ca.Source("/operator/bob"), nil, quiet...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = caller.Close() })
	conn, err := caller.NewClient(lis.Addr().String(), ca.ID("/service/users"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	client := usersv1.NewUsersServiceClient(conn)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()

	ask := func(token string) (*usersv1.GetSelfResponse, string) {
		answer, err := client.GetSelf(interceptors.AsUser(ctx, token), &usersv1.GetSelfRequest{})
		for _, detail := range status.Convert(err).Details() {
			if info, ok := detail.(*errdetails.ErrorInfo); ok {
				return nil, info.GetReason()
			}
		}
		return answer, status.Code(err).String()
	}
	// wait asks until the answer is the wanted one.
	wait := func(token, want string) *usersv1.GetSelfResponse {
		t.Helper()
		start := time.Now()
		for {
			answer, got := ask(token)
			if got == want {
				t.Logf("%s after %s", want, time.Since(start).Round(time.Millisecond))
				return answer
			}
			if time.Since(start) > time.Minute {
				t.Fatalf("got %s, want %s", got, want)
			}
		}
	}
	token := users.Token("alice", "users.admin", "orders.customer")
	answer := wait(token, "OK") // the verifier may still wait for its first snapshot
	if answer.GetUser().GetUsername() != "alice" || len(answer.GetRoles()) != 2 {
		t.Errorf("got %v, want alice as users.admin, which includes users.reader", answer)
	}
	wait("", "USER_REQUIRED")
	users.Revoke("alice")
	wait(token, "USER_TOKEN_REVOKED")
	wait(users.Token("alice"), "OK")
	wait(users.Token("bernd"), "OK")
}
