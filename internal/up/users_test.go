package up

import (
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	usersv1 "example.com/rolecall/gen/users/v1"
	"example.com/rolecall/internal/mesh"
	"example.com/rolecall/internal/node/nodetest"
	"example.com/rolecall/services/users"
)

// desk is a users service, asked by its administrator and by whoever verifies passwords.
type desk struct{ alice, tokens usersv1.UsersServiceClient }

func newDesk(t *testing.T) desk {
	t.Helper()
	m := nodetest.New(t, `
trustDomain: mesh.local
bindings:
  - {role: users.admin, members: [spiffe://mesh.local/operator/alice]}
  - {role: users.verifier, members: [spiffe://mesh.local/service/tokens]}
`)
	service := m.Start(t, "users", "", users.New(users.Config{Cost: users.Argon2{Passes: 1, MemoryKiB: 64, Lanes: 1}}))
	return desk{
		alice:  usersv1.NewUsersServiceClient(m.Client(t, "/operator/alice", service)),
		tokens: usersv1.NewUsersServiceClient(m.Client(t, "/service/tokens", service)),
	}
}

// complete completes the sample users and has each password verified.
func (d desk) complete(t *testing.T, dir mesh.Dir) []mesh.User {
	t.Helper()
	made, err := completeUsers(nodetest.Context(t), dir, d.alice)
	if err != nil {
		t.Fatalf("complete: %v", err)
	}
	for _, u := range made {
		if _, err := d.tokens.VerifyPassword(nodetest.Context(t), &usersv1.VerifyPasswordRequest{Username: u.Username, Password: u.Password}); err != nil {
			t.Errorf("the password of %s: %v", u.Username, err)
		}
	}
	return made
}

var wantUsers = []mesh.User{
	{Username: "dave", Roles: []string{"orders.customer"}},
	{Username: "erin", Roles: []string{"orders.customer", "orders.reader"}},
}

var ignorePasswords = cmpopts.IgnoreFields(mesh.User{}, "Password")

func TestTheSampleUsersAreMadeOnceAndTheirPasswordsKept(t *testing.T) {
	t.Parallel()
	d, dir := newDesk(t), newDir(t)
	first := d.complete(t, dir)
	if diff := cmp.Diff(wantUsers, first, ignorePasswords); diff != "" {
		t.Errorf("users (-want +got):\n%s", diff)
	}
	if len(first) == 2 && (len(first[0].Password) < 20 || first[0].Password == first[1].Password) {
		t.Error("the passwords can be guessed")
	}
	if info, err := os.Stat(dir.Users()); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file of the passwords: %v, %v; want mode 0600", info, err)
	}
	if diff := cmp.Diff(first, d.complete(t, dir)); diff != "" {
		t.Errorf("the second time (-first +second):\n%s", diff)
	}
	other := newDesk(t) // as with a database that was removed
	if diff := cmp.Diff(first, other.complete(t, dir)); diff != "" {
		t.Errorf("in an empty database (-first +second):\n%s", diff)
	}
}

func TestASampleUserThatSomebodyHasChangedIsLeftAsItIs(t *testing.T) {
	t.Parallel()
	d, dir := newDesk(t), newDir(t)
	d.complete(t, dir)
	if _, err := d.alice.SetRoles(nodetest.Context(t), &usersv1.SetRolesRequest{Username: "dave", Roles: []string{"ledger.reader"}}); err != nil {
		t.Fatal(err)
	}
	if _, err := d.alice.Disable(nodetest.Context(t), &usersv1.DisableRequest{Username: "erin"}); err != nil {
		t.Fatal(err)
	}
	want := []mesh.User{{Username: "dave", Roles: []string{"ledger.reader"}}}
	if diff := cmp.Diff(want, d.complete(t, dir), ignorePasswords); diff != "" {
		t.Errorf("users (-want +got):\n%s", diff)
	}
}

func TestAUserFromBeforeThereWerePasswordsGetsOne(t *testing.T) {
	t.Parallel()
	d, dir := newDesk(t), newDir(t)
	if _, err := d.alice.Create(nodetest.Context(t), &usersv1.CreateRequest{User: &usersv1.User{Username: "dave", DisplayName: "Dave"}}); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(wantUsers, d.complete(t, dir), ignorePasswords); diff != "" {
		t.Errorf("users (-want +got):\n%s", diff)
	}
	if there, err := d.alice.Get(nodetest.Context(t), &usersv1.GetRequest{Username: "dave"}); err != nil || there.GetUser().GetDisplayName() != "Dave" {
		t.Errorf("dave is %v now, %v", there.GetUser(), err)
	}
}

// A run that ends between keeping the password and making the user leaves a password that the next run uses.
func TestAPasswordIsKeptBeforeItsUserIsMade(t *testing.T) {
	t.Parallel()
	d, dir := newDesk(t), newDir(t)
	kept := sampleUsers()
	if err := writeUsers(dir, kept); err != nil {
		t.Fatal(err)
	}
	if _, err := d.alice.Create(nodetest.Context(t), &usersv1.CreateRequest{User: &usersv1.User{Username: "dave"}, Password: kept[0].Password}); err != nil {
		t.Fatal(err)
	}
	made := d.complete(t, dir)
	if len(made) != 2 || made[0].Password != kept[0].Password || made[1].Password != kept[1].Password {
		t.Error("the passwords are not those that were kept")
	}
}

func TestWithoutTheRoleNoSampleUserIsMadeAndThePasswordStaysForTheNextTime(t *testing.T) {
	t.Parallel()
	d, dir := newDesk(t), newDir(t)
	if _, err := completeUsers(nodetest.Context(t), dir, d.tokens); status.Code(err) != codes.PermissionDenied || !strings.Contains(err.Error(), "make user dave") {
		t.Errorf("got %v, want PermissionDenied about dave", err)
	}
	var kept []sampleUser
	data, err := os.ReadFile(dir.Users())
	if err == nil {
		err = json.Unmarshal(data, &kept)
	}
	if err != nil || len(kept) != 2 || kept[0].Made {
		t.Errorf("kept: %d users, %v; want 2 that are not made", len(kept), err)
	}
	for i, u := range d.complete(t, dir) {
		if u.Password != kept[i].Password {
			t.Errorf("%s has another password than the one that was kept", u.Username)
		}
	}
}

func TestAFileOfUsersThatIsNoneIsNotOverwritten(t *testing.T) {
	t.Parallel()
	d, dir := newDesk(t), newDir(t)
	if err := os.WriteFile(dir.Users(), []byte("secret: x"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := completeUsers(nodetest.Context(t), dir, d.alice)
	if err == nil || !strings.Contains(err.Error(), dir.Users()) || strings.Contains(err.Error(), "secret") {
		t.Errorf("got %v, want an error that names the file and nothing in it", err)
	}
}
