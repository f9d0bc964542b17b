package up

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"example.com/rolecall/interceptors"
	"example.com/rolecall/internal/catalog"
	"example.com/rolecall/internal/cli"
	"example.com/rolecall/internal/mesh"
	"example.com/rolecall/internal/supervisor"
	"example.com/rolecall/pki"
)

// Run brings the mesh up, keeps it up until ctx ends, and takes it down. It returns nil if that is how it ended. The error
// is a *mesh.RunningError if another process runs the mesh of this folder, and a *cli.UsageError if the configuration
// cannot be meant.
func Run(ctx context.Context, c Config) (err error) {
	if err := c.Check(); err != nil {
		return err
	}
	dir, err := mesh.Create(c.Dir)
	if err != nil {
		return err
	}
	lock, err := mesh.Acquire(dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lock.Release()) }()
	// Left by one that was killed.
	if err := errors.Join(mesh.Remove(dir), dir.RemoveSockets(), dir.RemoveLeftovers()); err != nil {
		return err
	}
	own, err := openLog(dir, "up")
	if err != nil {
		return err
	}
	defer own.Close()
	r := &run{
		config:  c,
		dir:     dir,
		log:     slog.New(slog.NewJSONHandler(own, nil)),
		tasks:   map[string]*supervisor.Task{},
		logs:    map[string]*supervisor.Log{},
		refused: map[string]error{},
	}
	r.log.Info("starting", "dir", dir.Path())
	err = r.whole(ctx)
	r.log.Info("stopped", "error", err)
	return err
}

// Logs are bounded: this much for each process, in the newest file and the older ones.
const (
	logSize  = 10 << 20
	logFiles = 3
)

func openLog(dir mesh.Dir, name string) (*supervisor.Log, error) {
	return supervisor.OpenLog(dir.Log(name), logSize, logFiles)
}

// run is one mesh from its start to its end.
type run struct {
	config Config
	dir    mesh.Dir
	plan   *plan
	log    *slog.Logger
	began  time.Time

	ca        *pki.CA
	guard     *interceptors.Guard
	operators *operators
	policy    *interceptors.Policy
	users     []mesh.User
	notices   []string // for the table
	release   func()   // gives the ports back, which nobody else is given meanwhile; nil: there are none

	sup      *supervisor.Supervisor
	keeping  sync.WaitGroup // of registrations
	progress *cli.Progress
	order    []string // in which the processes were started

	mu      sync.Mutex
	tasks   map[string]*supervisor.Task
	logs    map[string]*supervisor.Log
	refused map[string]error // why the agent does not register a process, while it does not
	up      bool
}

func (r *run) whole(ctx context.Context) (err error) {
	r.began = time.Now()
	defer func() {
		if r.release != nil {
			r.release()
		}
	}()
	if err := r.prepare(); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.guard.Close()) }()
	chores, endChores := context.WithCancel(context.Background())
	var working sync.WaitGroup
	defer func() { endChores(); working.Wait() }()
	working.Go(func() { r.ca.KeepRotated(chores, r.log) })
	working.Go(func() { r.operators.keepFresh(chores, r.log) })
	working.Go(func() { r.keepAgent(chores) })
	working.Go(func() { r.followAuthority(chores) })

	r.sup = supervisor.New(r.event)
	defer func() { err = errors.Join(err, r.stop()) }()
	r.newProgress(r.names())
	err = r.start(ctx)
	r.progress.End()
	if err != nil {
		if ctx.Err() != nil {
			return nil // told to stop while it started: stopped is what was wanted
		}
		return err
	}
	r.ensureUsers(ctx)
	if err := r.announce(); err != nil {
		return err
	}
	r.table()
	<-ctx.Done()
	return nil
}

// prepare makes and checks everything that the first process needs.
func (r *run) prepare() error {
	td, err := r.config.trustDomain(r.dir)
	if err != nil {
		return err
	}
	r.plan = &plan{dir: r.dir, td: td, leafTTL: r.config.LeafTTL, accessTTL: r.config.AccessTTL, url: r.config.Database != "", auditAllowed: r.config.AuditAllowed,
		federate: r.config.Federate, endpoint: r.config.BundleEndpoint}
	if r.plan.ports, r.release, err = r.config.ports(); err != nil {
		return err
	}
	if r.plan.api, r.plan.control, err = r.dir.Sockets(); err != nil {
		return err
	}
	if r.policy, err = ensureRoles(r.dir, td); err != nil {
		return err
	}
	if lines := missingBindings(r.policy, td); lines != "" {
		r.notice("Nobody can log in: %s is from before there were users. Add below bindings:\n\n%s", cli.Relative(r.dir.Roles()), lines)
	}
	if err := r.database(); err != nil {
		return err
	}
	var created bool
	r.ca, created, err = pki.OpenOrCreate(r.dir.Path(), pki.Config{TrustDomain: td, IssuerLife: r.config.IssuerTTL, LeafLife: r.config.LeafTTL})
	if err != nil {
		return fmt.Errorf("open the certificate authority: %w", err)
	}
	r.log.Info("certificate authority", "trust_domain", td.Name(), "created", created, "root_at_hand", r.ca.HasRoot())
	issuers := r.ca.Issuers()
	for _, path := range []string{r.dir.Bundle(), r.dir.AgentBundle()} {
		if err := pki.WriteBundle(path, issuers.Bundle()); err != nil {
			return fmt.Errorf("write bundle: %w", err)
		}
	}
	if err := r.issueAgent(); err != nil {
		return fmt.Errorf("issue the agent's first certificate: %w", err)
	}
	r.operators = newOperators(r.dir, issuers, r.config.LeafTTL)
	if err := r.operators.start(); err != nil {
		return err
	}
	source, err := pki.NewSource(issuers, pki.Leaf{ID: catalog.SupervisorID(td), Life: r.config.LeafTTL})
	if err != nil {
		return err
	}
	// Its audit record would be of handshakes that fail while a service starts.
	r.guard, err = interceptors.New(source, nil, interceptors.Logger(r.log), interceptors.Audit(slog.DiscardHandler))
	return err
}

// database hands the URL to the services in a file of mode 0600: it may hold a password, and command lines are public.
func (r *run) database() error {
	if r.config.Database == "" {
		if err := os.Remove(r.dir.DatabaseURL()); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("forget the former database: %w", err)
		}
		return nil
	}
	return mesh.WriteFile(r.dir.DatabaseURL(), []byte(r.config.Database+"\n"), 0o600)
}

// names returns all processes in the order in which they start.
func (r *run) names() []string {
	names := []string{"authority", agentName}
	for _, s := range catalog.Services() {
		if s.Name != "authority" {
			names = append(names, s.Name)
		}
	}
	return names
}
