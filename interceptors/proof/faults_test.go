package proof_test

import (
	"crypto/x509"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
	"google.golang.org/grpc/codes"

	"example.com/rolecall/interceptors"
	"example.com/rolecall/interceptors/internal/feature"
	"example.com/rolecall/interceptors/proof"
)

// faults are what goes wrong with a source, as a feature sees it.
type faults struct {
	interceptors.Source
	away   atomic.Bool                      // the own certificate cannot be read
	panics atomic.Bool                      // whoever reads a bundle does
	also   atomic.Pointer[x509.Certificate] // is in the bundle
}

// of returns the feature with such a source; nil faults are none.
func (f *faults) of(with interceptors.Feature) interceptors.Feature {
	if f == nil {
		return with
	}
	return &faulty{with, f}
}

type faulty struct {
	interceptors.Feature
	faults *faults
}

func (f *faulty) Start(env feature.Env) (feature.Running, error) {
	f.faults.Source, env.Source = env.Source, f.faults
	return f.Feature.Start(env)
}

func (f *faults) GetX509SVID() (*x509svid.SVID, error) {
	if f.away.Load() {
		return nil, errors.New("the agent is away")
	}
	return f.Source.GetX509SVID()
}

func (f *faults) GetX509BundleForTrustDomain(td spiffeid.TrustDomain) (*x509bundle.Bundle, error) {
	if f.panics.Load() {
		panic("a bug in the verifier")
	}
	bundle, err := f.Source.GetX509BundleForTrustDomain(td)
	if also := f.also.Load(); err == nil && also != nil {
		bundle = bundle.Clone()
		bundle.AddX509Authority(also)
	}
	return bundle, err
}

// A question for keys belongs to no call whose end would be the end of a panic.
func TestAPanicOverAChainEndsOneQuestionAndNotTheProcess(t *testing.T) {
	t.Parallel()
	var f faults
	m := newMesh(t, func(c *meshConfig) { c.faults = &f })
	signer, via := m.workload(payer).announced(), m.workload(relay)
	f.panics.Store(true)
	_, err := proof.Forward(timeout(t), via.conn, signer.signed(pay, 1))
	refused(t, err, codes.Unavailable, "VERIFIER_UNAVAILABLE")
	if log := m.log.String(); !strings.Contains(log, "a bug in the verifier") {
		t.Errorf("the log has %s", log)
	}
	f.panics.Store(false)
	if _, err := proof.Forward(timeout(t), via.conn, signer.signed(pay, 1)); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}

// A bundle may hold the certificate of one workload itself, and then it is all of its chain.
func TestASignerWhoseCertificateIsInTheBundleIsFound(t *testing.T) {
	t.Parallel()
	var f faults
	m := newMesh(t, func(c *meshConfig) { c.faults = &f })
	signer, via := m.workload(payer).announced(), m.workload(relay)
	svid, err := signer.source.GetX509SVID()
	must(t, err)
	f.also.Store(svid.Certificates[0])
	if _, err := proof.Forward(timeout(t), via.conn, signer.signed(pay, 1)); err != nil {
		t.Error(err)
	}
}

// A good proof is not refused for good because this server cannot tell who it is.
func TestWithoutItsOwnCertificateAServerCannotVerify(t *testing.T) {
	t.Parallel()
	var f faults
	m := newMesh(t, func(c *meshConfig) { c.noKeys, c.faults = true, &f })
	w := m.workload(payer)
	if _, err := w.pay(timeout(t), pay); err != nil {
		t.Fatal(err)
	}
	f.away.Store(true)
	_, err := w.pay(timeout(t), pay)
	refused(t, err, codes.Unavailable, "VERIFIER_UNAVAILABLE")
	f.away.Store(false)
	if _, err := w.pay(timeout(t), pay); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}

// A key server that takes its time has a proof accepted no longer than it lives.
func TestDelaysPastTheExpiryWhileTheKeyIsAskedFor(t *testing.T) {
	t.Parallel()
	m := newMesh(t)
	signer, via := m.workload(payer).announced(), m.workload(relay)
	svid, err := signer.source.GetX509SVID()
	must(t, err)
	m.keys.lying(func(string, string) [][]byte {
		m.clock.forward(5 * time.Minute)
		return raws(svid.Certificates...)
	})
	_, err = proof.Forward(timeout(t), via.conn, signer.signed(pay, 1))
	refused(t, err, codes.Unauthenticated, "PROOF_EXPIRED")
	if n := m.bank.reached.Load(); n != 0 {
		t.Errorf("the handler was reached %d times", n)
	}
}
