package up

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"slices"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	usersv1 "example.com/rolecall/gen/users/v1"
	"example.com/rolecall/interceptors"
	"example.com/rolecall/internal/catalog"
	"example.com/rolecall/internal/mesh"
	"example.com/rolecall/pki"
)

// usersTimeout bounds how long the sample users may take to be made, whose passwords are hashed.
const usersTimeout = 20 * time.Second

// sampleUser is a person who buys. The JSON form is that of the file that keeps the passwords.
type sampleUser struct {
	Username string   `json:"username"`
	Password string   `json:"password"`
	Roles    []string `json:"roles"`
	// Made tells whether the user is known to have this password.
	Made bool `json:"made"`
}

// sampleUsers are the people of a new mesh: dave buys, erin also sees what others have bought.
func sampleUsers() []sampleUser {
	return []sampleUser{
		{Username: "dave", Password: rand.Text(), Roles: []string{"orders.customer"}},
		{Username: "erin", Password: rand.Text(), Roles: []string{"orders.customer", "orders.reader"}},
	}
}

// ensureUsers makes the sample users that are not there, as alice, and keeps their passwords. Those that somebody has changed
// are left as they are. What goes wrong is told and stops nothing: the mesh serves without them.
func (r *run) ensureUsers(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, usersTimeout)
	defer cancel()
	client, done, err := r.usersClient()
	if err == nil {
		defer done()
		r.users, err = completeUsers(ctx, r.dir, client)
	}
	if err != nil && ctx.Err() == nil {
		r.log.Warn("the sample users are not complete", "error", err)
		r.notice("The sample users are not complete: %v. The next 'rolecall up' tries again.", err)
	}
}

// usersClient returns a client of users with the certificate of alice.
func (r *run) usersClient() (client usersv1.UsersServiceClient, done func(), err error) {
	td := r.plan.td
	source, err := pki.NewSource(r.ca.Issuers(), pki.Leaf{ID: catalog.OperatorID(td, sampleOperators[0]), Life: r.config.LeafTTL})
	if err != nil {
		return nil, nil, err
	}
	guard, err := interceptors.New(source, nil, interceptors.Logger(r.log), interceptors.Audit(slog.DiscardHandler))
	if err != nil {
		return nil, nil, err
	}
	conn, err := guard.NewClient("passthrough:///"+address(r.plan.ports["users"].service), catalog.ID(td, "users"))
	if err != nil {
		return nil, nil, errors.Join(err, guard.Close())
	}
	return usersv1.NewUsersServiceClient(conn), func() { _ = errors.Join(conn.Close(), guard.Close()) }, nil
}

// completeUsers returns the sample users with their passwords. A password is kept before the user is made, so that none is
// lost if this process ends in between.
func completeUsers(ctx context.Context, d mesh.Dir, client usersv1.UsersServiceClient) ([]mesh.User, error) {
	kept, err := readUsers(d)
	if err != nil {
		return nil, err
	}
	for _, sample := range sampleUsers() {
		if !slices.ContainsFunc(kept, func(u sampleUser) bool { return u.Username == sample.Username }) {
			kept = append(kept, sample)
		}
	}
	if err := writeUsers(d, kept); err != nil {
		return nil, err
	}
	var users []mesh.User
	for i := range kept {
		user, err := makeUser(ctx, client, &kept[i])
		if err != nil {
			return users, fmt.Errorf("make user %s: %w", kept[i].Username, err)
		}
		if !user.GetDisabled() {
			users = append(users, mesh.User{Username: user.GetUsername(), Password: kept[i].Password, Roles: append([]string{}, user.GetRoles()...)})
		}
	}
	return users, writeUsers(d, kept)
}

// makeUser makes a user, or reads the one that is there. One that is there without being known to have the password, as in
// a folder from before users had any, gets it, and the roles.
func makeUser(ctx context.Context, client usersv1.UsersServiceClient, u *sampleUser) (*usersv1.User, error) {
	created, err := client.Create(ctx, &usersv1.CreateRequest{User: &usersv1.User{Username: u.Username, Roles: u.Roles}, Password: u.Password})
	if err == nil {
		u.Made = true
		return created.GetUser(), nil
	}
	if status.Code(err) != codes.AlreadyExists {
		return nil, err
	}
	if !u.Made {
		if _, err := client.SetRoles(ctx, &usersv1.SetRolesRequest{Username: u.Username, Roles: u.Roles}); err != nil {
			return nil, err
		}
		if _, err := client.SetPassword(ctx, &usersv1.SetPasswordRequest{Username: u.Username, Password: u.Password}); err != nil {
			return nil, err
		}
		u.Made = true
	}
	there, err := client.Get(ctx, &usersv1.GetRequest{Username: u.Username})
	return there.GetUser(), err
}

func readUsers(d mesh.Dir) (users []sampleUser, err error) {
	data, err := os.ReadFile(d.Users())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the sample users: %w", err)
	}
	if err := json.Unmarshal(data, &users); err != nil {
		return nil, fmt.Errorf("%s is not a list of users: remove it, and set the passwords of the sample users anew", d.Users())
	}
	return users, nil
}

func writeUsers(d mesh.Dir, users []sampleUser) error {
	data, err := json.MarshalIndent(users, "", "  ")
	if err != nil {
		return fmt.Errorf("keep the sample users: %w", err)
	}
	return mesh.WriteFile(d.Users(), append(data, '\n'), 0o600)
}
