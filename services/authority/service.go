// Package authority is the service that holds the issuer key: it signs the certificates of the trust domain's workloads.
//
// A workload renews its own identity with a CSR over a new key. Whoever holds the role authority.requester, as the agent
// does, asks for the identities of others, within what its registration allows. An agent of another machine gets its first
// certificate for a join ticket. The root is not here: the issuers' certificates and encrypted keys lie in the directory
// that package pki describes, are put there by whoever has the root, by hand or through PrepareIssuer, and are read again
// when they change. The authority signs its own certificate.
//
// service.go is the way in; issue.go, jwt.go and join.go sign; entitlement.go and registrations.go decide who may have
// what; bundle.go and endpoint.go tell verifiers what to go by; trust.go collects who has been told; issuers.go is for
// operators; refresh.go keeps up with the directory.
package authority

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	authorityv1 "example.com/rolecall/gen/authority/v1"
	"example.com/rolecall/interceptors"
	"example.com/rolecall/internal/node"
	"example.com/rolecall/pki"
)

// ownPath is the path of the authority's own SPIFFE ID.
const ownPath = "/service/authority"

// Config describes an authority. Only Dir is needed.
type Config struct {
	// Dir holds bundle.pem, credential, issuers/ and what else package pki describes.
	Dir string
	// Credential is the file that the issuer keys are encrypted with, where it does not lie in Dir: systemd hands it over
	// in a folder of its own. Empty: Dir/credential.
	Credential string
	// LeafLife is how long certificates live; 24 h if zero, a sixth of the issuer's life at most.
	LeafLife time.Duration
	// Registrations is the path of registrations.yaml, which says what each requester may ask for, and is read again when
	// it changes. A requester that is not in it may ask for nothing. Empty: all may ask for what Allow and DNSNames say.
	Registrations string
	// Allow are the SPIFFE IDs that requesters may ask for, as paths in which "*" is one whole segment; /service/* if empty.
	// The authority's own ID, operators, tickets and agents are never among them. Not together with Registrations.
	Allow []string
	// DNSNames are names that requesters may ask for beside localhost, NAME and NAME.TRUST-DOMAIN of /service/NAME; a
	// leading "*." stands for one label. Not together with Registrations.
	DNSNames []string
	// Endpoint is the HOST:PORT of the bundle endpoint (profile https_spiffe), from which other trust domains read the
	// bundle. Empty: not served.
	Endpoint string
	// Log takes the operational log until Setup brings the node's. nil: slog.Default().
	Log *slog.Logger
}

// Authority implements authority.v1. Safe for concurrent use once Setup has returned.
type Authority struct {
	authorityv1.UnimplementedAuthorityServiceServer
	config        Config
	id            spiffeid.ID
	issuers       *pki.Issuers
	life          time.Duration
	registrations atomic.Pointer[registrations]
	tickets       tickets
	source        *pki.Source
	log           *slog.Logger
	counts        counts
	reports       reports
	renewals      renewals

	publishing sync.Mutex // one publish at a time
	current    atomic.Pointer[published]
	stopping   <-chan struct{} // nil before Setup
	endpoint   string          // address of the bundle endpoint, once it listens
}

// Open reads the issuers and the registrations, and signs the authority's own certificate.
func Open(cfg Config) (*Authority, error) {
	a, err := open(cfg)
	if err != nil {
		return nil, fmt.Errorf("open authority: %w", err)
	}
	return a, nil
}

func open(cfg Config) (*Authority, error) {
	if err := cfg.check(); err != nil { // before keys are opened, which takes its time
		return nil, err
	}
	var options []pki.IssuersOption
	if cfg.Credential != "" {
		options = append(options, pki.WithCredential(cfg.Credential))
	}
	issuers, err := pki.OpenIssuers(cfg.Dir, nil, options...)
	if err != nil {
		return nil, err
	}
	return openOn(issuers, cfg)
}

func openOn(issuers *pki.Issuers, cfg Config) (*Authority, error) {
	if cfg.LeafLife == 0 {
		cfg.LeafLife = pki.DefaultLeafLife
	}
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	a := &Authority{config: cfg, issuers: issuers, life: cfg.LeafLife, log: cfg.Log, tickets: ticketsIn(cfg.Dir)}
	var err error
	if a.id, err = spiffeid.FromPath(issuers.TrustDomain(), ownPath); err != nil {
		return nil, err
	}
	first, err := firstRegistrations(cfg, issuers.TrustDomain())
	if err != nil {
		return nil, err
	}
	a.registrations.Store(first)
	if a.source, err = pki.NewSource(issuers, pki.Leaf{ID: a.id, Life: cfg.LeafLife, Requester: a.id.String(),
		DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback}}); err != nil {
		if act := issuers.ActBy(); act.Command != "" {
			return nil, fmt.Errorf("%w: %s", err, act.Command)
		}
		return nil, err
	}
	// What was restored from a backup would otherwise have the number of an older bundle for ever.
	if err := issuers.BumpSequence(); err != nil {
		return nil, err
	}
	if err := a.refreshIssuers(); err != nil {
		return nil, err
	}
	return a, nil
}

// check refuses what is wrong whatever the directory holds.
func (cfg Config) check() error {
	if cfg.LeafLife != 0 && cfg.LeafLife < pki.MinLeafLife {
		return fmt.Errorf("leaf life %s is too short: %s at least", cfg.LeafLife, pki.MinLeafLife)
	}
	if cfg.Registrations != "" && len(cfg.Allow)+len(cfg.DNSNames) > 0 {
		return errors.New("registrations and a list for all requesters were given: where there is a registrations file, it alone decides")
	}
	_, err := newEntitlement(cfg.Allow, cfg.DNSNames, nil)
	return err
}

func firstRegistrations(cfg Config, td spiffeid.TrustDomain) (*registrations, error) {
	if cfg.Registrations != "" {
		return readRegistrations(cfg.Registrations, td)
	}
	if len(cfg.Allow) == 0 {
		cfg.Allow = []string{"/service/*"}
	}
	everyone, err := newEntitlement(cfg.Allow, cfg.DNSNames, nil)
	return &registrations{everyone: everyone}, err
}

// Source returns the authority's own certificate, which renews itself, and the roots that it trusts: what its node runs on.
func (a *Authority) Source() interceptors.Source { return a.source }

// Setup registers the authority on a node and opens the bundle endpoint.
func (a *Authority) Setup(ctx context.Context, n *node.Node) error {
	a.log, a.stopping = n.Log, n.Stopping()
	if err := a.observe(n.Meter); err != nil {
		return err
	}
	if err := a.openEndpoint(ctx, n); err != nil {
		return err
	}
	authorityv1.RegisterAuthorityServiceServer(n.Server, a)
	n.Go(a.keepFresh)
	return nil
}
