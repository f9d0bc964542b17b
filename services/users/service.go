// Package users is the service that knows the people on whose behalf calls are made.
//
// It keeps one row for each person and never deletes one. It verifies passwords and says what tokens of a user are to
// carry, and which end: generations.go has the rules. Tokens themselves are the business of the tokens service, which asks
// here each time and follows each raise of a generation.
//
// service.go keeps the rows, login.go the passwords, subject.go answers tokens, watch.go tells it of raises, self.go
// answers the users themselves.
package users

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"go.opentelemetry.io/otel/metric"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	usersv1 "example.com/rolecall/gen/users/v1"
	"example.com/rolecall/internal/node"
	"example.com/rolecall/internal/page"
	"example.com/rolecall/internal/store"
	"example.com/rolecall/internal/watch"
)

//go:embed migrations/*.sql
var migrations embed.FS

// Config changes what New makes. The zero value is right for production.
type Config struct {
	// Cost of a password hash. Zero: RFC 9106's second recommended option. Hashes that are stored keep their own.
	Cost Argon2
	// HashRuns is how many hashes run at once, at the cost's memory each; 0: 2. HashWaiting is how many more calls may wait
	// for one; 0: 32. HashWait is how long they wait at most; 0: 5 s.
	HashRuns, HashWaiting int
	HashWait              time.Duration
	// Heartbeat is how often a stream of generations shows that it is alive; 0: 5 s.
	Heartbeat time.Duration
	// Now is the clock; nil: time.Now.
	Now func() time.Time

	beforeHash func() // of tests: called when a hash has its turn; nil for none
}

func (c Config) withDefaults() (Config, error) {
	if c.Cost == (Argon2{}) {
		c.Cost = standardCost
	}
	if err := c.Cost.check(); err != nil {
		return c, fmt.Errorf("users: %w", err)
	}
	if c.HashRuns == 0 {
		c.HashRuns = 2
	}
	if c.HashWaiting == 0 {
		c.HashWaiting = 32
	}
	if c.HashWait == 0 {
		c.HashWait = 5 * time.Second
	}
	if c.Heartbeat == 0 {
		c.Heartbeat = 5 * time.Second
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.HashRuns < 1 || c.HashWaiting < 1 || c.HashWait < 0 || c.Heartbeat < 0 {
		return c, errors.New("users: HashRuns, HashWaiting, HashWait and Heartbeat must not be negative")
	}
	return c, nil
}

// pollInterval is how soon a raise of another replica is seen by those who watch.
const pollInterval = 200 * time.Millisecond

// Service implements users.v1. Safe for concurrent use.
type Service struct {
	usersv1.UnimplementedUsersServiceServer
	users    users
	cost     Argon2
	hashing  *gate
	attempts *attempts
	began    time.Time
	beat     time.Duration
	domain   spiffeid.TrustDomain
	stopping <-chan struct{}
	log      *slog.Logger
	now      func() time.Time
}

// Setup registers the service on a node.
func Setup(ctx context.Context, n *node.Node) error { return New(Config{})(ctx, n) }

// New returns a Setup with another configuration.
func New(config Config) func(ctx context.Context, n *node.Node) error {
	return func(ctx context.Context, n *node.Node) error {
		config, err := config.withDefaults()
		if err != nil {
			return err
		}
		db, err := n.OpenDB(ctx, migrations)
		if err != nil {
			return err
		}
		hashes, err := n.Meter.Int64Counter("rolecall.users.password.hashes", metric.WithUnit("{run}"),
			metric.WithDescription("Runs of argon2id, for passwords that are verified and that are set."))
		if err != nil {
			return fmt.Errorf("make metrics: %w", err)
		}
		s := &Service{
			users: newUsers(db), cost: config.Cost, attempts: newAttempts(), began: config.Now(), beat: config.Heartbeat,
			hashing: newGate(config.HashRuns, config.HashWaiting, config.HashWait, func() {
				hashes.Add(context.Background(), 1)
				if config.beforeHash != nil {
					config.beforeHash()
				}
			}),
			domain: n.ID.TrustDomain(), stopping: n.Stopping(), log: n.Log, now: config.Now,
		}
		if err := s.users.epochs.Begin(ctx); err != nil {
			return fmt.Errorf("begin an epoch: %w", err)
		}
		if db.Shared() {
			n.Go(func(ctx context.Context) {
				watch.Poll(ctx, pollInterval, s.users.position, s.users.raised, n.Log, "raises")
			})
		}
		usersv1.RegisterUsersServiceServer(n.Server, s)
		return nil
	}
}

// Create adds a user.
func (s *Service) Create(ctx context.Context, req *usersv1.CreateRequest) (*usersv1.CreateResponse, error) {
	user, err := newUser(req.GetUser(), s.now())
	if err != nil {
		return nil, err
	}
	var password phc
	if req.GetPassword() != "" {
		if password, err = s.hash(ctx, "create user "+user.username, req.GetPassword()); err != nil {
			return nil, err
		}
	}
	if err := s.users.add(ctx, user, password); err != nil {
		return nil, s.status(ctx, "create user "+user.username, err)
	}
	return &usersv1.CreateResponse{User: user.message()}, nil
}

// Get reads one user.
func (s *Service) Get(ctx context.Context, req *usersv1.GetRequest) (*usersv1.GetResponse, error) {
	if err := checkUsername("username", req.GetUsername()); err != nil {
		return nil, err
	}
	user, err := s.users.get(ctx, req.GetUsername())
	if err != nil {
		return nil, s.status(ctx, "get user "+req.GetUsername(), err)
	}
	return &usersv1.GetResponse{User: user.message()}, nil
}

// List lists users by username.
func (s *Service) List(ctx context.Context, req *usersv1.ListRequest) (*usersv1.ListResponse, error) {
	const question = "users.List"
	size, after, err := page.Read(question, req.GetPageSize(), req.GetPageToken())
	if err != nil {
		return nil, err
	}
	if after != "" && !username.MatchString(after) {
		return nil, page.Foreign()
	}
	found, err := s.users.list(ctx, after, size+1)
	if err != nil {
		return nil, s.status(ctx, "list users", err)
	}
	answer := &usersv1.ListResponse{}
	if len(found) > size {
		found = found[:size]
		answer.NextPageToken = page.Token(question, found[size-1].username)
	}
	for _, user := range found {
		answer.Users = append(answer.Users, user.message())
	}
	return answer, nil
}

// Update changes the fields that the mask names.
func (s *Service) Update(ctx context.Context, req *usersv1.UpdateRequest) (*usersv1.UpdateResponse, error) {
	apply, err := changes(req.GetUser(), req.GetUpdateMask())
	if err != nil {
		return nil, err
	}
	user, err := s.users.change(ctx, req.GetUser().GetUsername(), func(_ *store.Tx, u *user) (ending, error) {
		apply(u)
		u.updated = s.now()
		return nothing, nil
	})
	if err != nil {
		return nil, s.status(ctx, "update user "+req.GetUser().GetUsername(), err)
	}
	return &usersv1.UpdateResponse{User: user.message()}, nil
}

// SetRoles replaces the roles that a user holds. Those that the user holds already change nothing.
func (s *Service) SetRoles(ctx context.Context, req *usersv1.SetRolesRequest) (*usersv1.SetRolesResponse, error) {
	if err := checkUsername("username", req.GetUsername()); err != nil {
		return nil, err
	}
	roles, err := checkRoles("roles", req.GetRoles())
	if err != nil {
		return nil, err
	}
	user, err := s.users.change(ctx, req.GetUsername(), func(_ *store.Tx, u *user) (ending, error) {
		if slices.Equal(u.roles, roles) {
			return nothing, nil
		}
		u.roles, u.updated = roles, s.now()
		u.raised = u.updated
		return tokens, nil
	})
	if err != nil {
		return nil, s.status(ctx, "set roles of user "+req.GetUsername(), err)
	}
	return &usersv1.SetRolesResponse{User: user.message()}, nil
}

// Disable takes a user out of use.
func (s *Service) Disable(ctx context.Context, req *usersv1.DisableRequest) (*usersv1.DisableResponse, error) {
	if err := checkUsername("username", req.GetUsername()); err != nil {
		return nil, err
	}
	user, err := s.users.change(ctx, req.GetUsername(), func(_ *store.Tx, u *user) (ending, error) {
		if u.disabled {
			return nothing, nil
		}
		u.disabled, u.updated = true, s.now()
		u.raised = u.updated
		return allSessions, nil
	})
	if err != nil {
		return nil, s.status(ctx, "disable user "+req.GetUsername(), err)
	}
	return &usersv1.DisableResponse{User: user.message()}, nil
}

// status turns what the store answered into what the caller is told.
func (s *Service) status(ctx context.Context, doing string, err error) error {
	switch {
	case errors.Is(err, errTaken):
		return status.Error(codes.AlreadyExists, "the username is taken")
	case errors.Is(err, errNotFound):
		return status.Error(codes.NotFound, "there is no such user")
	case errors.Is(err, errBusy):
		return limited(ctx, "too many passwords are being verified", busyRetry)
	default:
		return store.Status(ctx, s.log, doing, fmt.Errorf("users: %w", err))
	}
}
