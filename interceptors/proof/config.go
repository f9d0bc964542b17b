package proof

import (
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"example.com/rolecall/interceptors"
	"example.com/rolecall/interceptors/internal/feature"
)

// Defaults of Config.
const (
	DefaultLife      = 30 * time.Second
	DefaultLeeway    = 5 * time.Second
	DefaultPerSigner = 65_536
	DefaultCacheSize = 10_000
)

// NoLeeway is the Config.Leeway that allows clocks no difference at all.
const NoLeeway = time.Duration(-1)

// Config says how requests are signed and verified. The zero value is good for a mesh without a key server and with one
// replica of each service.
type Config struct {
	// Target is the address of the key server, as grpc.NewClient takes it, and Server its SPIFFE ID. Without both, proofs are
	// verified of peers only, with the key that they show on their connection, and nobody can relay one.
	Target string
	Server spiffeid.ID
	// Life is the time from iat to exp of proofs that are made: 1 second to 1 minute; zero is 30 seconds.
	Life time.Duration
	// Leeway is by how much the clocks of signers may differ from ours, to the second: 1 to 30 seconds, or NoLeeway; zero is 5
	// seconds. A proof is good from iat less the leeway until exp plus the leeway.
	Leeway time.Duration
	// Metadata are the names, in lower case, that handlers of this server read: a call is refused that brings one of them and
	// whose proof does not cover it. Covered metadata must be as it was signed, whatever its name.
	Metadata []string
	// Window remembers which proofs were used; nil is one in memory, for one replica.
	Window Window
	// PerSigner is how many proofs of one signer a replica remembers at a time, to all methods together: 1 to 25,000,000, in
	// about 30 bytes each; zero is 65,536. A proof is remembered for its life, the leeway and up to 8 seconds more, so that
	// 65,536 are about 1,400 requests a second with proofs of 30 s, and 870 with those that others pass on. For a Window that
	// is given, and for methods with exactly_once, the proofs are counted in memory before the database is asked.
	PerSigner int
	// MarkFile keeps, for the window in memory, which proofs may have been accepted before the process starts again: one file
	// of a few bytes for each process, written every 2 seconds at most. It is locked, by a file beside it, for as long as the
	// guard lives; a process that starts while another has it waits for 5 seconds, and does not start then. Without it a
	// server refuses, as expired, the proofs that were made before it started or, since clocks differ, within the leeway after
	// that.
	MarkFile string
	// CacheSize is how many keys of signers are remembered: 16 to 1,000,000; zero is 10,000, of about 4 KB each.
	CacheSize int
}

// New makes the feature, to be given to one guard with interceptors.With. What is wrong with the configuration is reported
// when the guard is made. It neither waits for the key server nor fails when that is down.
func New(cfg Config) *Feature { return &Feature{config: cfg} }

// Feature enforces requires_proof, signs what the guard's clients send to methods that have it, and verifies the receipts.
// Safe for concurrent use.
type Feature struct {
	config  Config
	pace    pace // zero: production's
	running atomic.Pointer[proofs]
}

// Annotations implements interceptors.Feature.
func (*Feature) Annotations() []string { return []string{"requires_proof"} }

// Start implements interceptors.Feature.
func (f *Feature) Start(env feature.Env) (feature.Running, error) {
	cfg, err := f.config.checked(env.TrustDomain)
	if err != nil {
		return nil, fmt.Errorf("proof: %w", err)
	}
	p, err := start(cfg, f.pace.orDefault(), env)
	if err != nil {
		return nil, fmt.Errorf("proof: %w", err)
	}
	if !f.running.CompareAndSwap(nil, p) {
		return nil, errors.Join(errors.New("proof: the feature was given to two guards: make one for each"), p.Close())
	}
	return p, nil
}

var errNotStarted = errors.New("proof: the feature has not been given to a guard")

// checked returns the configuration with its defaults filled in, or what is wrong with it.
func (c Config) checked(own spiffeid.TrustDomain) (Config, error) {
	switch {
	case (c.Target == "") != c.Server.IsZero():
		return c, errors.New("the key server is given by Target and Server together: give both")
	case !c.Server.IsZero() && (c.Server.Path() == "" || !c.Server.MemberOf(own)):
		return c, fmt.Errorf("server %q is not a workload of the own trust domain %q", c.Server, own)
	}
	if c.PerSigner == 0 {
		c.PerSigner = DefaultPerSigner
	}
	if c.PerSigner < 1 || c.PerSigner > mostPerSigner {
		return c, fmt.Errorf("a PerSigner of %d: 1 to %d are possible", c.PerSigner, mostPerSigner)
	}
	if c.Window != nil && c.MarkFile != "" {
		return c, errors.New("MarkFile is for the window in memory: another one says itself what it remembers")
	}
	err := fill("Life", &c.Life, DefaultLife, time.Second, maxLife)
	if c.Leeway == NoLeeway {
		c.Leeway = 0
	} else {
		err = errors.Join(err, fill("Leeway", &c.Leeway, DefaultLeeway, time.Second, maxLeeway))
	}
	if c.CacheSize == 0 {
		c.CacheSize = DefaultCacheSize
	}
	if c.CacheSize < 16 || c.CacheSize > 1_000_000 {
		err = errors.Join(err, fmt.Errorf("a CacheSize of %d: 16 to 1,000,000 are possible", c.CacheSize))
	}
	c.Metadata = slices.Clone(c.Metadata)
	for _, name := range c.Metadata {
		if !coverable(name) {
			err = errors.Join(err, fmt.Errorf("metadata %q is not covered by proofs: names are in lower case, and not of gRPC, tracing or rolecall itself", name))
		}
	}
	return c, err
}

const maxLeeway = 30 * time.Second

func fill(name string, d *time.Duration, zero, least, most time.Duration) error {
	if *d == 0 {
		*d = zero
	}
	if *d < least || *d > most || *d%time.Second != 0 {
		return fmt.Errorf("a %s of %s: whole seconds from %s to %s are possible", name, *d, least, most)
	}
	return nil
}

var _ interceptors.Feature = (*Feature)(nil)
