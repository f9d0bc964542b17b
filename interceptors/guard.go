package interceptors

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
	"go.opentelemetry.io/otel/metric"

	"example.com/rolecall/interceptors/internal/audit"
	"example.com/rolecall/interceptors/internal/authz"
	"example.com/rolecall/interceptors/internal/feature"
	"example.com/rolecall/interceptors/internal/identity"
)

// Source is this workload's certificate and the bundles that it trusts; *workloadapi.X509Source of go-spiffe is one.
// It must be safe for concurrent use and stay open as long as the guard.
type Source interface {
	x509svid.Source
	x509bundle.Source
}

// Guard holds one identity and one set of bindings for the servers and clients of a process. Safe for concurrent use.
type Guard struct {
	source      Source
	trustDomain spiffeid.TrustDomain
	options     options
	log         *slog.Logger
	audit       *audit.Log
	now         func() time.Time

	bindings    io.Closer // nil without bindings
	state       atomic.Pointer[state]
	policyError atomic.Pointer[policyError]
	changed     chan struct{}
	stop        chan struct{}
	done        chan struct{}

	refused   counters[identity.Reason]
	metrics   metric.Registration
	closeOnce sync.Once
	closed    atomic.Bool

	running []feature.Running
	users   feature.Users  // nil: no feature knows users
	proofs  feature.Proofs // nil: no feature verifies proofs
	once    feature.Once   // nil: no feature answers repeated requests
	methods described

	mu      sync.Mutex
	calling []feature.Calling // in the order in which clients run them
	servers []*Server
	clients map[*connection]struct{}
}

// state is what all decisions of the guard rest on. Immutable; replaced as a whole.
type state struct {
	bindings *authz.Bindings // nil: this process only calls
	loaded   time.Time
	trust    *identity.Trust
}

type policyError struct{ err error }

// New makes a guard. It reads the own certificate and the bindings, and reports the first thing in them that is wrong.
// With nil bindings the guard makes clients only: its servers refuse to start.
func New(source Source, bindings Bindings, opts ...Option) (*Guard, error) {
	if source == nil {
		return nil, errors.New("interceptors: a source of certificates is needed, such as workloadapi.NewX509Source")
	}
	o := defaultOptions()
	for _, opt := range opts {
		if err := opt(&o); err != nil {
			return nil, fmt.Errorf("interceptors: %w", err)
		}
	}
	svid, err := source.GetX509SVID()
	if err != nil {
		return nil, fmt.Errorf("interceptors: read the own certificate: %w", err)
	}
	g := &Guard{
		source:      source,
		trustDomain: svid.ID.TrustDomain(),
		options:     o,
		log:         o.log,
		now:         o.now,
		changed:     make(chan struct{}, 1),
		stop:        make(chan struct{}),
		done:        make(chan struct{}),
		clients:     map[*connection]struct{}{},
	}
	first := &state{loaded: g.now(), trust: identity.ReadTrust(source, []spiffeid.TrustDomain{g.trustDomain})}
	if bindings != nil {
		if first.bindings, g.bindings, err = bindings.open(g.log, g.applyBindings); err != nil {
			return nil, fmt.Errorf("interceptors: %w", err)
		}
		if err := g.checkDomain(first.bindings); err != nil {
			return nil, errors.Join(fmt.Errorf("interceptors: %w", err), g.bindings.Close())
		}
	}
	// A change that was seen since the first read has already been stored, and stands.
	g.state.CompareAndSwap(nil, first)
	if err := g.observe(); err != nil {
		return nil, errors.Join(fmt.Errorf("interceptors: register metrics: %w", err), g.closeBindings())
	}
	g.audit = audit.New(o.audit)
	if err := g.startFeatures(); err != nil {
		close(g.done)
		return nil, errors.Join(fmt.Errorf("interceptors: %w", err), g.Close())
	}
	go g.watch()
	return g, nil
}

func (g *Guard) checkDomain(b *authz.Bindings) error {
	if b.TrustDomain != g.trustDomain {
		return fmt.Errorf("the bindings are for trust domain %q, the own certificate is of %q", b.TrustDomain, g.trustDomain)
	}
	return nil
}

func (g *Guard) closeBindings() error {
	if g.bindings == nil {
		return nil
	}
	return g.bindings.Close()
}

// Close stops the guard's servers and closes its clients' connections, since nothing may stay open that nobody looks at
// any more, ends the watching of bindings and bundle, and writes what is left of the audit records. To let calls in
// flight finish, stop the servers gracefully before. Calls of Close after the first do nothing.
func (g *Guard) Close() error {
	var err error
	g.closeOnce.Do(func() {
		g.closed.Store(true)
		servers, clients := g.open()
		for _, s := range servers {
			s.Stop()
		}
		err = g.closeFeatures() // before the connections that they use
		for _, c := range clients {
			_ = c.Close()
		}
		err = errors.Join(err, g.closeBindings())
		close(g.stop)
		<-g.done
		err = errors.Join(err, g.metrics.Unregister())
		g.audit.Close()
	})
	return err
}

// Status is what an operator wants to know of a guard.
type Status struct {
	TrustDomain string
	// ID is the own SPIFFE ID, empty if the source fails.
	ID                  string
	CertificateNotAfter time.Time
	// PolicyVersion is the first 12 hex digits of the SHA-256 of the bindings in force; empty without bindings.
	PolicyVersion string
	PolicyLoaded  time.Time
	// PolicyError says why the last read of the bindings was refused, while the last good ones stay in force.
	PolicyError error
	// AuditDropped counts the audit records that were lost because they could not be written fast enough.
	AuditDropped uint64
}

// Status returns the guard's present state.
func (g *Guard) Status() Status {
	now := g.state.Load()
	s := Status{TrustDomain: g.trustDomain.Name(), PolicyLoaded: now.loaded, AuditDropped: g.audit.Dropped()}
	if svid, err := g.source.GetX509SVID(); err == nil {
		s.ID, s.CertificateNotAfter = svid.ID.String(), svid.Certificates[0].NotAfter
	}
	if now.bindings != nil {
		s.PolicyVersion = now.bindings.Version
	}
	if e := g.policyError.Load(); e != nil {
		s.PolicyError = e.err
	}
	return s
}

// errClosed ends the handshakes of a guard that looks at nothing any more.
var errClosed = &identity.HandshakeError{Reason: identity.ReasonOther, Err: errors.New("the guard has been closed")}

// credentials returns what identity needs for one side of this guard: event is what a failed handshake is called in the
// audit record.
func (g *Guard) credentials(event string, opened func(*identity.Conn) error, closed func(*identity.Conn)) identity.Config {
	return identity.Config{
		Source: g.source, Now: g.now, Opened: opened, Closed: closed,
		Refused: func(remote net.Addr, err *identity.HandshakeError) {
			g.refused.add(err.Reason)
			g.audit.Write(audit.Record{
				Event: event, Verdict: audit.Denied, Reason: string(err.Reason), Detail: cut(err.Err.Error(), 512),
				Claimed: err.Claimed, Peer: remote,
			})
		},
	}
}
