package users_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/fieldmaskpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	usersv1 "example.com/rolecall/gen/users/v1"
	"example.com/rolecall/internal/leaktest"
	"example.com/rolecall/internal/node/nodetest"
	"example.com/rolecall/internal/store/storetest"
	"example.com/rolecall/services/users"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

const roles = `
trustDomain: mesh.local
bindings:
  - role: users.admin
    members: [spiffe://mesh.local/operator/alice]
  - role: users.reader
    members: [spiffe://mesh.local/operator/bob]
  - role: users.verifier
    members: [spiffe://mesh.local/service/tokens]
`

// each runs a test as alice against a service on every kind of database.
func each(t *testing.T, test func(t *testing.T, alice usersv1.UsersServiceClient)) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, url string) {
		mesh := nodetest.New(t, roles)
		service := mesh.Start(t, "users", url, users.Setup)
		test(t, usersv1.NewUsersServiceClient(mesh.Client(t, "/operator/alice", service)))
	})
}

var ignoreTimes = protocmp.IgnoreFields(&usersv1.User{}, "create_time", "update_time")

func TestAUserIsCreatedReadChangedAndDisabled(t *testing.T) {
	each(t, func(t *testing.T, alice usersv1.UsersServiceClient) {
		ctx := nodetest.Context(t)
		want := &usersv1.User{Username: "dave", DisplayName: "Dave Ünal", Email: "dave@example.com"}
		created, err := alice.Create(ctx, &usersv1.CreateRequest{User: want})
		if err != nil {
			t.Fatalf("create: %v", err)
		}
		if diff := cmp.Diff(want, created.GetUser(), protocmp.Transform(), ignoreTimes); diff != "" {
			t.Errorf("created (-want +got):\n%s", diff)
		}
		if _, err := alice.Create(ctx, &usersv1.CreateRequest{User: want}); status.Code(err) != codes.AlreadyExists {
			t.Errorf("create again: got %v, want AlreadyExists", err)
		}
		got, err := alice.Get(ctx, &usersv1.GetRequest{Username: "dave"})
		if err != nil {
			t.Fatalf("get: %v", err)
		}
		if diff := cmp.Diff(created.GetUser(), got.GetUser(), protocmp.Transform()); diff != "" {
			t.Errorf("get answers something else than create (-create +get):\n%s", diff)
		}

		updated, err := alice.Update(ctx, &usersv1.UpdateRequest{
			User:       &usersv1.User{Username: "dave", DisplayName: "not in the mask", Email: "d@example.org"},
			UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{"email"}},
		})
		if err != nil {
			t.Fatalf("update: %v", err)
		}
		want.Email = "d@example.org"
		if diff := cmp.Diff(want, updated.GetUser(), protocmp.Transform(), ignoreTimes); diff != "" {
			t.Errorf("updated (-want +got):\n%s", diff)
		}

		disabled, err := alice.Disable(ctx, &usersv1.DisableRequest{Username: "dave"})
		if err != nil {
			t.Fatalf("disable: %v", err)
		}
		again, err := alice.Disable(ctx, &usersv1.DisableRequest{Username: "dave"})
		if err != nil {
			t.Fatalf("disable again: %v", err)
		}
		want.Disabled = true
		if diff := cmp.Diff(want, disabled.GetUser(), protocmp.Transform(), ignoreTimes); diff != "" {
			t.Errorf("disabled (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff(disabled.GetUser(), again.GetUser(), protocmp.Transform()); diff != "" {
			t.Errorf("disabling twice changed something (-first +second):\n%s", diff)
		}
	})
}

func TestUnknownUsersAreNotFound(t *testing.T) {
	each(t, func(t *testing.T, alice usersv1.UsersServiceClient) {
		ctx := nodetest.Context(t)
		_, get := alice.Get(ctx, &usersv1.GetRequest{Username: "nobody"})
		_, disable := alice.Disable(ctx, &usersv1.DisableRequest{Username: "nobody"})
		_, update := alice.Update(ctx, &usersv1.UpdateRequest{
			User: &usersv1.User{Username: "nobody"}, UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{"email"}},
		})
		for method, err := range map[string]error{"get": get, "disable": disable, "update": update} {
			if status.Code(err) != codes.NotFound {
				t.Errorf("%s: got %v, want NotFound", method, err)
			}
		}
	})
}

func TestBadRequestsNameTheirField(t *testing.T) {
	t.Parallel()
	mesh := nodetest.New(t, roles)
	alice := usersv1.NewUsersServiceClient(mesh.Client(t, "/operator/alice", mesh.Start(t, "users", "", users.Setup)))
	create := func(u *usersv1.User) func() error {
		return func() error {
			_, err := alice.Create(nodetest.Context(t), &usersv1.CreateRequest{User: u})
			return err
		}
	}
	update := func(u *usersv1.User, paths ...string) func() error {
		return func() error {
			_, err := alice.Update(nodetest.Context(t), &usersv1.UpdateRequest{User: u, UpdateMask: &fieldmaskpb.FieldMask{Paths: paths}})
			return err
		}
	}
	list := func(size int32, token string) func() error {
		return func() error {
			_, err := alice.List(nodetest.Context(t), &usersv1.ListRequest{PageSize: size, PageToken: token})
			return err
		}
	}
	for name, tc := range map[string]struct {
		call  func() error
		field string
	}{
		"no user":                             {create(nil), "user"},
		"no username":                         {create(&usersv1.User{}), "user.username"},
		"upper case in the username":          {create(&usersv1.User{Username: "Dave"}), "user.username"},
		"a username of 65":                    {create(&usersv1.User{Username: strings.Repeat("a", 65)}), "user.username"},
		"a username that starts with a digit": {create(&usersv1.User{Username: "1a"}), "user.username"},
		"a username with a line break":        {create(&usersv1.User{Username: "dave\n"}), "user.username"},
		"a display name of 201":               {create(&usersv1.User{Username: "d", DisplayName: strings.Repeat("ü", 201)}), "user.display_name"},
		"a NUL in the display name":           {create(&usersv1.User{Username: "d", DisplayName: "a\x00b"}), "user.display_name"},
		"an email with a name":                {create(&usersv1.User{Username: "d", Email: "D <d@example.com>"}), "user.email"},
		"an email without an at sign":         {create(&usersv1.User{Username: "d", Email: "example.com"}), "user.email"},
		"an email of 255":                     {create(&usersv1.User{Username: "d", Email: strings.Repeat("a", 243) + "@example.com"}), "user.email"},
		"65 roles":                            {create(&usersv1.User{Username: "d", Roles: slices.Repeat([]string{"a.a"}, 65)}), "user.roles"},
		"roles of 1,025 bytes":                {create(&usersv1.User{Username: "d", Roles: manyRoles(1025)}), "user.roles"},
		"a role with a star":                  {create(&usersv1.User{Username: "d", Roles: []string{"a.a", "a.*"}}), "user.roles[1]"},
		"attributes of 4,097 bytes":           {create(&usersv1.User{Username: "d", Attributes: `"` + strings.Repeat("a", 4095) + `"`}), "user.attributes"},
		"attributes that are no JSON":         {create(&usersv1.User{Username: "d", Attributes: "{"}), "user.attributes"},
		"attributes that are two values":      {create(&usersv1.User{Username: "d", Attributes: "{} {}"}), "user.attributes"},
		"attributes with a key twice":         {create(&usersv1.User{Username: "d", Attributes: `{"a":{"b":1,"\u0062":2}}`}), "user.attributes"},
		"attributes nested deeply":            {create(&usersv1.User{Username: "d", Attributes: strings.Repeat("[", 13) + strings.Repeat("]", 13)}), "user.attributes"},
		"an update with bad attributes":       {update(&usersv1.User{Username: "d", Attributes: "x"}, "attributes"), "user.attributes"},
		"disabled at creation":                {create(&usersv1.User{Username: "d", Disabled: true}), "user.disabled"},
		"a creation time of one's own":        {create(&usersv1.User{Username: "d", CreateTime: timestamppb.Now()}), "user.create_time"},
		"an empty mask":                       {update(&usersv1.User{Username: "d"}), "update_mask"},
		"a mask with a field that stays":      {update(&usersv1.User{Username: "d"}, "email", "disabled"), "update_mask.paths[1]"},
		"a mask with a star":                  {update(&usersv1.User{Username: "d"}, "*"), "update_mask.paths[0]"},
		"an update with a bad email":          {update(&usersv1.User{Username: "d", Email: "x"}, "email"), "user.email"},
		"an update without a username":        {update(nil, "email"), "user.username"},
		"a negative page size":                {list(-1, ""), "page_size"},
		"a page token made up":                {list(0, "bm8"), "page_token"},
		"a page token of a megabyte":          {list(0, strings.Repeat("A", 1<<20)), "page_token"},
	} {
		t.Run(name, func(t *testing.T) {
			err := tc.call()
			if got := invalidFields(err); status.Code(err) != codes.InvalidArgument || !slices.Equal(got, []string{tc.field}) {
				t.Errorf("got %v about the fields %v, want InvalidArgument about %s", err, got, tc.field)
			}
		})
	}
}

// manyRoles returns roles that have this many bytes in all, counted as a token has them.
func manyRoles(bytes int) (names []string) {
	for ; bytes >= 32; bytes -= 16 {
		names = append(names, fmt.Sprintf("role.%08d", len(names)))
		names[len(names)-1] = strings.Map(func(r rune) rune {
			if r >= '0' && r <= '9' {
				return r - '0' + 'a'
			}
			return r
		}, names[len(names)-1])
	}
	return append(names, "a."+strings.Repeat("z", bytes-5))
}

func TestRolesAndAttributesAreKeptToTheirBounds(t *testing.T) {
	each(t, func(t *testing.T, alice usersv1.UsersServiceClient) {
		ctx := nodetest.Context(t)
		want := &usersv1.User{Username: "dave", Roles: manyRoles(1024), Attributes: `"` + strings.Repeat("a", 4094) + `"`}
		created, err := alice.Create(ctx, &usersv1.CreateRequest{User: want})
		if err != nil {
			t.Fatalf("create: %v", err)
		}
		slices.Sort(want.Roles)
		if diff := cmp.Diff(want, created.GetUser(), protocmp.Transform(), ignoreTimes); diff != "" {
			t.Errorf("created (-want +got):\n%s", diff)
		}
		if _, err := alice.Update(ctx, &usersv1.UpdateRequest{
			User:       &usersv1.User{Username: "dave", Attributes: " { \"a\" : [ 1 ] } "},
			UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{"attributes"}},
		}); err != nil {
			t.Fatalf("update: %v", err)
		}
		if _, err := alice.SetRoles(ctx, &usersv1.SetRolesRequest{Username: "dave", Roles: []string{"b.b", "a.a", "b.b"}}); err != nil {
			t.Fatalf("set roles: %v", err)
		}
		got, err := alice.Get(ctx, &usersv1.GetRequest{Username: "dave"})
		if err != nil {
			t.Fatalf("get: %v", err)
		}
		want.Roles, want.Attributes = []string{"a.a", "b.b"}, `{"a":[1]}`
		if diff := cmp.Diff(want, got.GetUser(), protocmp.Transform(), ignoreTimes); diff != "" {
			t.Errorf("changed (-want +got):\n%s", diff)
		}
	})
}

func invalidFields(err error) (fields []string) {
	for _, detail := range status.Convert(err).Details() {
		if bad, ok := detail.(*errdetails.BadRequest); ok {
			for _, v := range bad.GetFieldViolations() {
				fields = append(fields, v.GetField())
			}
		}
	}
	return fields
}

func TestPagesHoldEveryUserOnceInOrder(t *testing.T) {
	each(t, func(t *testing.T, alice usersv1.UsersServiceClient) {
		ctx := nodetest.Context(t)
		var want []string
		for i := range 23 {
			for _, form := range []string{"u%d", "u-%d", "u.%d", "u_%d"}[:1+i%4] {
				name := fmt.Sprintf(form, i)
				if _, err := alice.Create(ctx, &usersv1.CreateRequest{User: &usersv1.User{Username: name}}); err != nil {
					t.Fatalf("create %s: %v", name, err)
				}
				want = append(want, name)
			}
		}
		slices.Sort(want)
		for _, size := range []int32{1, 7, int32(len(want)), 0, 5000} {
			var got []string
			for token, pages := "", 0; ; pages++ {
				answer, err := alice.List(ctx, &usersv1.ListRequest{PageSize: size, PageToken: token})
				if err != nil || pages > len(want) {
					t.Fatalf("page %d of size %d: %v", pages, size, err)
				}
				for _, u := range answer.GetUsers() {
					got = append(got, u.GetUsername())
				}
				if token = answer.GetNextPageToken(); token == "" {
					break
				}
			}
			if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("pages of %d (-want +got):\n%s", size, diff)
			}
		}
	})
}

func TestAReaderChangesNothing(t *testing.T) {
	t.Parallel()
	mesh := nodetest.New(t, roles)
	service := mesh.Start(t, "users", "", users.Setup)
	for path, want := range map[string][2]codes.Code{
		"/operator/alice": {codes.OK, codes.OK},
		"/operator/bob":   {codes.OK, codes.PermissionDenied},
		"/operator/carol": {codes.PermissionDenied, codes.PermissionDenied},
	} {
		client := usersv1.NewUsersServiceClient(mesh.Client(t, path, service))
		_, list := client.List(nodetest.Context(t), &usersv1.ListRequest{})
		_, create := client.Create(nodetest.Context(t), &usersv1.CreateRequest{User: &usersv1.User{Username: "dave"}})
		if got := [2]codes.Code{status.Code(list), status.Code(create)}; got != want {
			t.Errorf("%s: list and create got %v, want %v", path, got, want)
		}
	}
}
