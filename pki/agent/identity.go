package agent

import (
	"context"
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"sync"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"example.com/rolecall/pki"
)

// Times of the renewal of a certificate.
const (
	signTimeout  = 10 * time.Second
	firstBackoff = 250 * time.Millisecond
	lastBackoff  = 15 * time.Second
)

// Signer has certificates signed: the authority over mutual TLS, or anything else that can.
type Signer interface {
	// Sign returns the chain for a PKCS#10 request in DER, leaf first, without the root. It must be safe to call
	// concurrently and return soon after ctx ends.
	Sign(ctx context.Context, csr []byte) ([]*x509.Certificate, error)
}

// names are what a certificate is asked to say.
type names struct {
	id    spiffeid.ID
	dns   []string
	ips   []net.IP
	entry bool // an entry fits, as opposed to a registration: the identity outlives its streams for a while
}

// key tells identities apart.
func (n names) key() string { return fmt.Sprintf("%s %t %q %s", n.id, n.entry, n.dns, n.ips) }

// identity holds the certificate of one set of names and renews it for as long as run runs. Keys are made here, one for
// each certificate, and are never written anywhere.
type identity struct {
	names
	signer  Signer
	log     *slog.Logger
	now     func() time.Time
	renewal *Renewal
	changed func(*identity) // told after each new certificate and each first failure

	mu    sync.Mutex
	svid  *svid
	err   error
	tried chan struct{} // closed when the first attempt is over
	once  sync.Once
}

// svid is immutable.
type svid struct {
	id       spiffeid.ID
	chain    []*x509.Certificate
	key      []byte // PKCS#8
	notAfter time.Time
}

func newIdentity(n names, signer Signer, log *slog.Logger, now func() time.Time, changed func(*identity)) *identity {
	return &identity{names: n, signer: signer, log: log, now: now, renewal: NewRenewal(now), changed: changed, tried: make(chan struct{})}
}

// current returns the certificate, or why there is none that is valid.
func (i *identity) current(now time.Time) (*svid, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.svid != nil && now.Before(i.svid.notAfter) {
		return i.svid, nil
	}
	if i.err != nil {
		return nil, i.err
	}
	return nil, fmt.Errorf("no certificate for %s yet", i.id)
}

// run renews until ctx ends, when Renewal says, and after a failure again and again, less and less often, with jitter so
// that many agents do not come back at once.
func (i *identity) run(ctx context.Context) {
	backoff := firstBackoff
	for ctx.Err() == nil {
		issued := i.now()
		fresh, err := i.renew(ctx)
		if ctx.Err() != nil {
			return
		}
		i.mu.Lock()
		failedBefore := i.err != nil
		i.err = err
		if err == nil {
			i.svid = fresh
		}
		i.mu.Unlock()
		i.once.Do(func() { close(i.tried) })
		if err == nil {
			backoff = firstBackoff
			i.changed(i)
			i.renewal.Wait(ctx, fresh.chain, issued)
			continue
		}
		if !failedBefore {
			i.log.Warn("certificate could not be renewed; trying again", "id", i.id, "error", err)
			i.changed(i)
		}
		pause(ctx, backoff/2+rand.N(backoff))
		backoff = min(2*backoff, lastBackoff)
	}
}

// pause waits, or for the end of ctx.
func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

// renew makes a key and has it signed.
func (i *identity) renew(ctx context.Context) (*svid, error) {
	ctx, cancel := context.WithTimeout(ctx, signTimeout)
	defer cancel()
	key, err := pki.NewKey()
	if err != nil {
		return nil, err
	}
	csr, err := pki.NewCSR(key, i.id, i.dns, i.ips)
	if err != nil {
		return nil, err
	}
	chain, err := i.signer.Sign(ctx, csr)
	if err != nil {
		return nil, fmt.Errorf("sign certificate of %s: %w", i.id, err)
	}
	if err := i.checkSigned(chain, key.Public()); err != nil {
		return nil, fmt.Errorf("sign certificate of %s: what came back %w", i.id, err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("encode private key: %w", err)
	}
	i.log.Debug("certificate renewed", "id", i.id, "serial", fmt.Sprintf("%x", chain[0].SerialNumber), "not_after", chain[0].NotAfter)
	return &svid{id: i.id, chain: chain, key: der, notAfter: chain[0].NotAfter}, nil
}

// checkSigned makes sure that a chain is what was asked for, and of use, before anybody is given it.
func (i *identity) checkSigned(chain []*x509.Certificate, public crypto.PublicKey) error {
	if len(chain) == 0 {
		return errors.New("is empty")
	}
	leaf := chain[0]
	if len(leaf.URIs) != 1 || leaf.URIs[0].String() != i.id.String() {
		return fmt.Errorf("names %v", leaf.URIs)
	}
	if key, ok := leaf.PublicKey.(interface{ Equal(crypto.PublicKey) bool }); !ok || !key.Equal(public) {
		return errors.New("holds another key")
	}
	if now := i.now(); !now.Before(leaf.NotAfter) {
		return fmt.Errorf("ended at %s, and the clock here says %s: this clock or the authority's is wrong",
			leaf.NotAfter.Format(time.RFC3339), now.UTC().Format(time.RFC3339))
	}
	if i.renewal.Revoked(chain) {
		return errors.New("is signed by an issuer that was revoked: the authority does not know that yet")
	}
	return nil
}
