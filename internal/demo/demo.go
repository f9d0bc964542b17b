// Package demo is a tour against a running mesh: `rolecall demo`. It makes real calls, as the sample operators, on behalf of
// sample users, and as Eve who has no business there, shows each as a command to try by hand, its answer, and why it was answered so, and fails if one went
// otherwise than it should.
//
//	err := demo.Run(ctx, demo.Config{Dir: ".rolecall", Out: out})
//
// It leaves accounts, transfers and orders behind, and ends all sessions of one sample user. For the scene in which a role is
// taken away it edits roles.yaml and gives back what stood there, byte for byte; for the last one its process is registered with
// the mesh's agent, for a moment, as orders.
package demo

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"example.com/rolecall/interceptors"
	"example.com/rolecall/internal/catalog"
	"example.com/rolecall/internal/cli"
	"example.com/rolecall/internal/mesh"
)

// patience bounds each attempt, and how long a change of roles.yaml may take to be felt.
const patience = 10 * time.Second

// Config says which mesh to tour.
type Config struct {
	// Dir is the folder of the mesh.
	Dir string
	Out *cli.Output
}

// tour is one run of the demo.
type tour struct {
	out    *cli.Output
	dir    mesh.Dir
	file   *mesh.File
	ledger mesh.Service
	policy *interceptors.Policy
	people map[string]*person
	users  map[string]mesh.User

	payer, shop string        // accounts that the first scene opens
	purse       string        // an account of dave's
	dave        *loggedIn     // his session, which scenes hand on
	pace        time.Duration // how long it stays at each attempt
	scenes      int
	attempts    int
	wrong       int
}

// Run makes the tour. The error is cli.ErrReported if something went otherwise than it should, which has been shown then.
func Run(ctx context.Context, c Config) (err error) {
	t, err := newTour(c)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, t.close()) }()
	if err := t.inForce(ctx); err != nil {
		return err
	}
	t.welcome()
	for _, scene := range []func(context.Context) error{
		t.allowed, t.denied, t.roleTakenAway, t.eveForges, t.eveWithout,
		t.logsIn, t.narrowed, t.refreshed, t.loggedOut, t.stolen,
		t.eveBetween, t.stolenMessage, t.exactlyOnce, t.passedOn,
	} {
		if err := scene(ctx); err != nil {
			return err
		}
	}
	if t.wrong > 0 {
		t.out.Printf("%s\n", t.out.Red(fmt.Sprintf("%d of %d attempts went otherwise than they should.", t.wrong, t.attempts)))
		return cli.ErrReported
	}
	t.out.Printf("%s\n", t.out.Green(fmt.Sprintf("All %d attempts went as they should.", t.attempts)))
	return nil
}

func newTour(c Config) (*tour, error) {
	dir, err := mesh.Open(c.Dir)
	if err != nil {
		return nil, err
	}
	file, err := mesh.Read(dir)
	if err != nil {
		return nil, err
	}
	if _, running, err := mesh.Running(dir); err != nil || !running {
		return nil, errors.Join(fmt.Errorf("%w in %s, and mesh.json is of one that was killed: start it with: rolecall up --dir %s", mesh.ErrNotRunning, dir.Path(), c.Dir), err)
	}
	if err := recoverRoles(file.Roles); err != nil {
		return nil, err
	}
	t := &tour{out: c.Out, dir: dir, file: file, people: map[string]*person{}, users: map[string]mesh.User{}}
	if t.out.Terminal() {
		t.pace = pace
	}
	for _, name := range append([]string{"keys"}, services...) {
		if _, ok := file.Service(name); !ok {
			return nil, fmt.Errorf("%s names no %s, which the tour is about: stop the mesh and start it again", dir.File(), name)
		}
	}
	t.ledger, _ = file.Service("ledger")
	roles, err := os.ReadFile(file.Roles)
	if err != nil {
		return nil, fmt.Errorf("read bindings: %w", err)
	}
	if t.policy, err = interceptors.ReadPolicy(roles, catalog.Descriptors()...); err != nil {
		return nil, fmt.Errorf("%s: %w", file.Roles, err)
	}
	return t, errors.Join(t.invite(), t.checkPolicy(), t.inviteUsers())
}

// checkPolicy refuses bindings under which the tour would show something else than it says.
func (t *tour) checkPolicy() error {
	for _, need := range []struct {
		who, method string
		may         bool
	}{
		{"alice", openAccount, true}, {"alice", transfer, true}, {"bob", getBalance, true}, {"bob", watchEntries, true},
		{"bob", openAccount, false}, {"bob", transfer, false}, {"carol", transfer, false},
		{"alice", login, true}, {"bob", login, true}, {"bob", placeOrder, true}, {"bob", listOrders, true}, {"carol", placeOrder, false},
	} {
		p := t.people[need.who]
		if p == nil || t.policy.MayCall(p.id, need.method) == need.may {
			continue
		}
		rule := "may not call"
		if need.may {
			rule = "may call"
		}
		return fmt.Errorf("the tour needs bindings under which %s %s %s, as in the sample: move %s away and start the mesh again to get one, or name another folder with --dir",
			need.who, rule, need.method, t.file.Roles)
	}
	return nil
}

func (t *tour) close() error {
	var errs []error
	for _, p := range t.people {
		errs = append(errs, p.close())
	}
	return errors.Join(errs...)
}
