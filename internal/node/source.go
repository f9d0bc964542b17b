package node

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/spiffe/go-spiffe/v2/logger"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
	"github.com/spiffe/go-spiffe/v2/workloadapi"

	"example.com/rolecall/interceptors"
)

// sourceWait is how long a service waits for its first certificate.
const sourceWait = 30 * time.Second

// openSource returns the source that was configured, or that of the Workload API once it has a certificate.
func (n *Node) openSource(ctx context.Context) (interceptors.Source, error) {
	if n.config.Source != nil {
		return n.config.Source, nil
	}
	source, err := workloadSource(ctx, n.config.Name, n.config.ID, sourceWait)
	if err != nil {
		return nil, err
	}
	n.closers = append(n.closers, source.Close)
	return source, nil
}

// workloadSource waits at most the given time for the first certificate. It goes on trying while the Workload API is not
// there yet or has no identity for this process: the agent may start after the service, and be told of it later.
func workloadSource(ctx context.Context, name string, id spiffeid.ID, wait time.Duration) (*workloadapi.X509Source, error) {
	address, ok := workloadapi.GetDefaultAddress()
	if !ok || address == "" {
		return nil, fmt.Errorf("%s is not set: set it to the socket of a Workload API, such as unix:///run/spire/agent.sock,"+
			" or start the service with 'rolecall up' or 'rolecall run'", workloadapi.SocketEnv)
	}
	if err := workloadapi.ValidateAddress(address); err != nil {
		return nil, fmt.Errorf("%s=%s: %w", workloadapi.SocketEnv, address, err)
	}
	bounded, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	pick := &picker{name: name, id: id}
	last := &lastError{Logger: logger.Null}
	source, err := workloadapi.NewX509Source(bounded,
		workloadapi.WithDefaultX509SVIDPicker(pick.choose),
		workloadapi.WithClientOptions(workloadapi.WithLogger(last), workloadapi.WithBackoffStrategy(backoffs{})))
	if err != nil {
		if ctx.Err() != nil {
			return nil, fmt.Errorf("stopped while waiting for a certificate: %w", ctx.Err())
		}
		return nil, fmt.Errorf("no certificate from the Workload API at %s=%s within %s: is the agent running, and does it know this process? its last answer: %s",
			workloadapi.SocketEnv, address, wait, last.message(err))
	}
	if _, err := source.GetX509SVID(); err != nil {
		return nil, errors.Join(fmt.Errorf("the Workload API at %s=%s does not offer %s; it offers %v: choose one of these with --id, or register this process for the other",
			workloadapi.SocketEnv, address, pick.wanted(), pick.offered()), source.Close())
	}
	return source, nil
}

// picker chooses the certificate of an ID among those that are offered; without an ID, that of /service/<name>, or the
// only one there is.
type picker struct {
	name string
	id   spiffeid.ID

	mu  sync.Mutex
	ids []spiffeid.ID
}

// choose returns nil if the ID is not offered: the source then answers with an error, not with another identity.
func (p *picker) choose(svids []*x509svid.SVID) *x509svid.SVID {
	var chosen *x509svid.SVID
	var ids []spiffeid.ID
	for _, svid := range svids {
		ids = append(ids, svid.ID)
		if svid.ID == p.id || p.id.IsZero() && chosen == nil && svid.ID.Path() == "/service/"+p.name {
			chosen = svid
		}
	}
	if chosen == nil && p.id.IsZero() && len(svids) == 1 {
		chosen = svids[0]
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ids = ids
	return chosen
}

// wanted says in words what choose looks for.
func (p *picker) wanted() string {
	if p.id.IsZero() {
		return "an ID with the path /service/" + p.name
	}
	return p.id.String()
}

func (p *picker) offered() []spiffeid.ID {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.ids
}

// lastError keeps what go-spiffe says of its last try; NewX509Source itself only tells that the time is over.
type lastError struct {
	logger.Logger
	mu   sync.Mutex
	last string
}

// Errorf is called by go-spiffe for each try that failed.
func (l *lastError) Errorf(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.last = fmt.Sprintf(format, args...)
}

func (l *lastError) message(other error) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.last == "" {
		return other.Error()
	}
	return l.last
}

// backoffs try again sooner than go-spiffe's own, which wait for a second first: a mesh that starts has its agent and its
// services come up together.
type backoffs struct{}

const firstWait, longestWait = 50 * time.Millisecond, 5 * time.Second

// NewBackoff starts with the shortest wait.
func (backoffs) NewBackoff() workloadapi.Backoff { return &backoff{wait: firstWait} }

type backoff struct{ wait time.Duration }

// Next waits twice as long as before, within bounds and with jitter.
func (b *backoff) Next() time.Duration {
	wait := b.wait
	b.wait = min(2*b.wait, longestWait)
	return wait/2 + rand.N(wait)
}

// Reset starts over.
func (b *backoff) Reset() { b.wait = firstWait }
