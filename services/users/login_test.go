package users_test

import (
	"bufio"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	usersv1 "example.com/rolecall/gen/users/v1"
	"example.com/rolecall/internal/node"
	"example.com/rolecall/internal/node/nodetest"
	"example.com/rolecall/services/users"
)

const password = "correct horse battery"

// cheap is what one hash costs in tests that are not about its cost.
var cheap = users.Argon2{Passes: 1, MemoryKiB: 64, Lanes: 1}

// desk is a users service with the user dave, asked by an administrator and by the tokens service.
type desk struct {
	service       *nodetest.Service
	alice, tokens usersv1.UsersServiceClient
}

func newDesk(t *testing.T, url string, config users.Config, changes ...func(*node.Config)) *desk {
	t.Helper()
	mesh := nodetest.New(t, roles)
	d := &desk{service: mesh.Start(t, "users", url, users.New(config), changes...)}
	d.alice = usersv1.NewUsersServiceClient(mesh.Client(t, "/operator/alice", d.service))
	d.tokens = usersv1.NewUsersServiceClient(mesh.Client(t, "/service/tokens", d.service))
	d.create(t, "dave", password)
	return d
}

func (d *desk) create(t *testing.T, username, password string) {
	t.Helper()
	if _, err := d.alice.Create(nodetest.Context(t), &usersv1.CreateRequest{User: &usersv1.User{Username: username}, Password: password}); err != nil {
		t.Fatalf("create %s: %v", username, err)
	}
}

func (d *desk) verify(t *testing.T, username, password string) (*usersv1.TokenSubject, error) {
	t.Helper()
	answer, err := d.tokens.VerifyPassword(nodetest.Context(t), &usersv1.VerifyPasswordRequest{Username: username, Password: password})
	return answer.GetSubject(), err
}

// hashes returns how many runs of argon2id the service has counted.
func (d *desk) hashes(t *testing.T) (n int) {
	t.Helper()
	answer, err := http.Get("http://" + d.service.Admin + "/metrics")
	if err != nil {
		t.Fatalf("metrics: %v", err)
	}
	defer answer.Body.Close() //nolint:errcheck // read to its end
	defer http.DefaultClient.CloseIdleConnections()
	for lines := bufio.NewScanner(answer.Body); lines.Scan(); {
		if _, err := fmt.Sscanf(lines.Text(), "rolecall_users_password_hashes_total %d", &n); err == nil {
			return n
		}
	}
	t.Fatal("the metric of hash runs is not there")
	return 0
}

func reason(err error) string {
	for _, detail := range status.Convert(err).Details() {
		if info, ok := detail.(*errdetails.ErrorInfo); ok {
			return info.GetReason()
		}
	}
	return ""
}

func TestAPasswordIsVerified(t *testing.T) {
	t.Parallel()
	d := newDesk(t, "", users.Config{}) // at the real cost
	if subject, err := d.verify(t, "dave", password); err != nil || subject.GetUsername() != "dave" {
		t.Errorf("the right password: %v, %v", subject, err)
	}
	if _, err := d.alice.SetPassword(nodetest.Context(t), &usersv1.SetPasswordRequest{Username: "dave", Password: "another one"}); err != nil {
		t.Fatalf("set password: %v", err)
	}
	if _, err := d.verify(t, "dave", password); reason(err) != "LOGIN_REFUSED" {
		t.Errorf("the old password: %v", err)
	}
	if subject, err := d.verify(t, "dave", "another one"); err != nil || subject.GetGeneration() != 1 || subject.GetSessionGeneration() != 1 {
		t.Errorf("the new password: %v, %v", subject, err)
	}
}

// Attack: username enumeration, by text and by the counted number of hash runs.
func TestNobodyLearnsWhichUsersThereAre(t *testing.T) {
	t.Parallel()
	d := newDesk(t, "", users.Config{Cost: cheap})
	d.create(t, "none", "")
	d.create(t, "gone", password)
	if _, err := d.alice.Disable(nodetest.Context(t), &usersv1.DisableRequest{Username: "gone"}); err != nil {
		t.Fatal(err)
	}
	var first error
	for name, tc := range map[string][2]string{
		"a wrong password":                       {"dave", "wrong password"},
		"an empty password":                      {"dave", ""},
		"an unknown user":                        {"nobody", password},
		"an unknown user without a password":     {"nobody", ""},
		"a user without a password":              {"none", password},
		"a user and a password that are both no": {"none", ""},
		"a disabled user":                        {"gone", password},
		"a disabled user, wrong password":        {"gone", "wrong password"},
		"a name that nobody can have":            {"Robert'); DROP TABLE users;--", password},
		"no name":                                {"", password},
		"a name of a hundred kilobytes":          {strings.Repeat("a", 100<<10), password},
	} {
		before := d.hashes(t)
		_, err := d.verify(t, tc[0], tc[1])
		if runs := d.hashes(t) - before; runs != 1 {
			t.Errorf("%s: %d hash runs, want 1", name, runs)
		}
		if reason(err) != "LOGIN_REFUSED" || status.Code(err) != codes.Unauthenticated {
			t.Errorf("%s: got %v, want LOGIN_REFUSED", name, err)
		}
		if first == nil {
			first = err
		}
		if err == nil || err.Error() != first.Error() {
			t.Errorf("%s: got %v, another answer than %v", name, err, first)
		}
	}
}

// Attack: guessing.
func TestAttemptsForOneUsernameAreBoundedWhetherItIsKnownOrNot(t *testing.T) {
	t.Parallel()
	var offset atomic.Int64
	d := newDesk(t, "", users.Config{Cost: cheap, Now: func() time.Time { return time.Now().Add(time.Duration(offset.Load())) }})
	for _, name := range []string{"dave", "nobody"} {
		for range 3 {
			if _, err := d.verify(t, "dave", password); err != nil && name == "dave" {
				t.Fatalf("the right password: %v", err) // costs no attempt
			}
		}
		for i := range 10 {
			if _, err := d.verify(t, name, "wrong password"); reason(err) != "LOGIN_REFUSED" {
				t.Errorf("%s, attempt %d: got %v, want LOGIN_REFUSED", name, i+1, err)
			}
		}
		before := d.hashes(t)
		_, err := d.verify(t, name, password)
		if reason(err) != "RATE_LIMITED" || status.Code(err) != codes.ResourceExhausted || retryAfter(err) <= 0 || retryAfter(err) > time.Minute {
			t.Errorf("%s, attempt 11: got %v, after %s; want RATE_LIMITED", name, err, retryAfter(err))
		}
		if runs := d.hashes(t) - before; runs != 0 {
			t.Errorf("%s, attempt 11: %d hash runs", name, runs)
		}
	}
	offset.Store(int64(61 * time.Second))
	if _, err := d.verify(t, "dave", password); err != nil {
		t.Errorf("a minute later: %v", err)
	}
}

func retryAfter(err error) time.Duration {
	for _, detail := range status.Convert(err).Details() {
		if retry, ok := detail.(*errdetails.RetryInfo); ok {
			return retry.GetRetryDelay().AsDuration()
		}
	}
	return 0
}

// Attack: password flood.
func TestAFloodOfLoginsIsRefusedBeyondWhatMayWait(t *testing.T) {
	t.Parallel()
	const calls, places = 200, 6 // 2 that run and 4 that wait
	var held atomic.Bool
	goOn := make(chan struct{})
	d := newDesk(t, "", users.Config{Cost: cheap, HashWaiting: places - 2, HashWait: time.Minute}.BeforeHash(func() {
		if held.Load() {
			<-goOn
		}
	}))
	release := sync.OnceFunc(func() { close(goOn) })
	t.Cleanup(release)
	held.Store(true)
	var ok, limited atomic.Int64
	before := d.hashes(t)
	var wg sync.WaitGroup
	for i := range calls {
		wg.Go(func() {
			_, err := d.verify(t, fmt.Sprintf("nobody%d", i), password)
			switch {
			case reason(err) == "LOGIN_REFUSED":
				ok.Add(1)
			case reason(err) == "RATE_LIMITED" && retryAfter(err) > 0:
				if limited.Add(1) == calls-places {
					release()
				}
			default:
				t.Errorf("got %v", err)
			}
		})
	}
	wg.Wait()
	t.Logf("%d verified, %d refused", ok.Load(), limited.Load())
	if runs := d.hashes(t) - before; int64(runs) != ok.Load() {
		t.Errorf("%d hash runs for %d that were verified", runs, ok.Load())
	}
	if ok.Load() != places {
		t.Errorf("%d verified and %d refused, want the %d who find a place, and no others", ok.Load(), limited.Load(), places)
	}
	if _, err := d.verify(t, "dave", password); err != nil {
		t.Errorf("after the flood: %v", err)
	}
}

func TestPasswordsThatNobodyShouldHaveAreRefused(t *testing.T) {
	t.Parallel()
	d := newDesk(t, "", users.Config{Cost: cheap})
	for name, password := range map[string]string{"seven bytes": "1234567", "257 bytes": strings.Repeat("a", 257)} {
		_, create := d.alice.Create(nodetest.Context(t), &usersv1.CreateRequest{User: &usersv1.User{Username: "erin"}, Password: password})
		_, set := d.alice.SetPassword(nodetest.Context(t), &usersv1.SetPasswordRequest{Username: "dave", Password: password})
		for call, err := range map[string]error{"create": create, "set password": set} {
			if reason(err) != "INVALID_FIELD" {
				t.Errorf("%s with %s: got %v, want INVALID_FIELD", call, name, err)
			}
		}
	}
	if _, err := d.verify(t, "nobody", strings.Repeat("a", 257)); reason(err) != "INVALID_FIELD" {
		t.Errorf("verify 257 bytes: got %v, want INVALID_FIELD", err)
	}
	if _, err := d.alice.SetPassword(nodetest.Context(t), &usersv1.SetPasswordRequest{Username: "nobody", Password: password}); status.Code(err) != codes.NotFound {
		t.Errorf("set the password of nobody: got %v, want NotFound", err)
	}
}

func TestOnlyTheTokensServiceVerifiesPasswords(t *testing.T) {
	t.Parallel()
	d := newDesk(t, "", users.Config{Cost: cheap})
	ctx := nodetest.Context(t)
	_, verify := d.alice.VerifyPassword(ctx, &usersv1.VerifyPasswordRequest{Username: "dave", Password: password})
	_, subject := d.alice.GetTokenSubject(ctx, &usersv1.GetTokenSubjectRequest{Username: "dave"})
	_, raise := d.alice.RaiseTokenGeneration(ctx, &usersv1.RaiseTokenGenerationRequest{Username: "dave"})
	_, roles := d.tokens.SetRoles(ctx, &usersv1.SetRolesRequest{Username: "dave", Roles: []string{"users.admin"}})
	for call, err := range map[string]error{"VerifyPassword": verify, "GetTokenSubject": subject, "RaiseTokenGeneration": raise, "SetRoles": roles} {
		if reason(err) != "ROLE_REQUIRED" {
			t.Errorf("%s: got %v, want ROLE_REQUIRED", call, err)
		}
	}
	if _, err := d.alice.GetSelf(ctx, &usersv1.GetSelfRequest{}); reason(err) != "USER_REQUIRED" {
		t.Errorf("GetSelf without a user: got %v, want USER_REQUIRED", err)
	}
}
