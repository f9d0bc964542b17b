package up

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"

	"example.com/rolecall/interceptors"
	"example.com/rolecall/internal/catalog"
	"example.com/rolecall/internal/mesh"
	"example.com/rolecall/pki"
)

// sampleOperators are the people of the sample bindings.
var sampleOperators = []string{"alice", "bob", "carol"}

// operators keeps the certificate files of the sample operators fresh. Only one goroutine at a time may call it.
type operators struct {
	dir     mesh.Dir
	issuers *pki.Issuers
	td      spiffeid.TrustDomain
	life    time.Duration
	renew   map[string]time.Time
	retry   map[string]time.Time // not before, after a failure
	chains  map[string][]*x509.Certificate
}

func newOperators(d mesh.Dir, issuers *pki.Issuers, life time.Duration) *operators {
	return &operators{dir: d, issuers: issuers, td: issuers.TrustDomain(), life: life, renew: map[string]time.Time{}, retry: map[string]time.Time{}, chains: map[string][]*x509.Certificate{}}
}

// start issues what is missing, worn, or not to be used with this root any more, over a new key.
func (o *operators) start() error {
	for _, name := range sampleOperators {
		certPath, keyPath := o.dir.OperatorCert(name)
		if cert, ok := o.usable(name, certPath, keyPath); ok {
			o.renew[name], o.chains[name] = pki.RenewAt(pki.IssuedAt(cert[0]), cert[0].NotAfter), cert
			continue
		}
		if err := os.Remove(keyPath); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("replace the key of %s: %w", name, err)
		}
		if err := o.issue(name); err != nil {
			return err
		}
	}
	return nil
}

// usable tells whether the files of an earlier run still serve: less than half of life gone, and not more life than asked
// for now.
func (o *operators) usable(name, certPath, keyPath string) ([]*x509.Certificate, bool) {
	svid, err := x509svid.Load(certPath, keyPath)
	if err != nil || svid.ID != catalog.OperatorID(o.td, name) {
		return nil, false
	}
	if superseded(o.issuers, svid.Certificates) {
		return nil, false
	}
	if _, _, err := x509svid.Verify(svid.Certificates, o.issuers.Bundle()); err != nil {
		return nil, false
	}
	cert, now := svid.Certificates[0], time.Now()
	left := cert.NotAfter.Sub(now)
	const rounding = 2 * time.Second // ends are rounded up
	return svid.Certificates, left <= o.life+rounding && left > cert.NotAfter.Sub(pki.IssuedAt(cert))/2
}

// keepFresh renews until ctx ends, a certificate whose issuer was revoked or whose root is being replaced at once. The key stays the same meanwhile, so that certificate and key fit together whenever
// somebody reads them.
func (o *operators) keepFresh(ctx context.Context, log *slog.Logger) {
	tick := time.NewTicker(min(lookEvery, o.life/30))
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		for _, name := range sampleOperators {
			now := time.Now()
			if now.Before(o.retry[name]) || now.Before(o.renew[name]) && !superseded(o.issuers, o.chains[name]) {
				continue
			}
			if err := o.issue(name); err != nil {
				o.retry[name] = now.Add(o.life / 60)
				log.Error("an operator's certificate was not renewed; the next try is soon", "operator", name, "error", err)
			}
		}
	}
}

func (o *operators) issue(name string) error {
	certPath, keyPath := o.dir.OperatorCert(name)
	chain, err := o.issuers.IssueFiles(pki.Leaf{ID: catalog.OperatorID(o.td, name), Life: o.life}, certPath, keyPath)
	if err != nil {
		return fmt.Errorf("issue the certificate of operator %s: %w", name, err)
	}
	o.renew[name], o.chains[name] = pki.RenewAt(pki.IssuedAt(chain[0]), chain[0].NotAfter), chain
	return nil
}

// describe returns the operators as mesh.json has them.
func (o *operators) describe(policy *interceptors.Policy) []mesh.Operator {
	var described []mesh.Operator
	for _, name := range sampleOperators {
		cert, key := o.dir.OperatorCert(name)
		id := catalog.OperatorID(o.td, name)
		described = append(described, mesh.Operator{Name: name, ID: id.String(), Cert: cert, Key: key, Roles: rolesOf(policy, id)})
	}
	return described
}
