package up

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"

	"example.com/rolecall/internal/catalog"
	"example.com/rolecall/internal/cli"
	"example.com/rolecall/internal/mesh"
	"example.com/rolecall/internal/rootrotation"
	"example.com/rolecall/pki"
)

// eventually waits for a condition, and logs how long it took.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	began := time.Now()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		if time.Since(began) > patience {
			t.Fatalf("not within %s: %s", patience, what)
		}
		<-tick.C
	}
	t.Logf("%s after %s", what, time.Since(began).Round(time.Millisecond))
}

// chore runs something of a mesh until the end of the test.
func chore(t *testing.T, f func(context.Context)) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() { defer close(ended); f(ctx) }()
	t.Cleanup(func() { cancel(); <-ended })
}

func readChain(t *testing.T, dir mesh.Dir, name string) []*x509.Certificate {
	t.Helper()
	cert, key := dir.OperatorCert(name)
	svid, err := x509svid.Load(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	return svid.Certificates
}

func roots(t *testing.T, path string) []*x509.Certificate {
	t.Helper()
	bundle, err := pki.ReadBundle(path)
	if err != nil {
		t.Fatal(err)
	}
	return bundle.X509Authorities()
}

func TestFilesFollowANewRootFromItsFirstStepToItsLast(t *testing.T) {
	t.Parallel()
	dir := newDir(t)
	ca := newCA(t, dir.Path())
	issuers, log := ca.Issuers(), slog.New(slog.DiscardHandler)
	old := ca.Root()
	if err := pki.WriteBundle(dir.Bundle(), issuers.Bundle()); err != nil {
		t.Fatal(err)
	}
	o := newOperators(dir, issuers, time.Hour)
	if err := o.start(); err != nil {
		t.Fatal(err)
	}
	r := &run{dir: dir, ca: ca, log: log, plan: &plan{td: issuers.TrustDomain()}}
	chore(t, r.followAuthority)
	chore(t, func(ctx context.Context) { o.keepFresh(ctx, log) })

	// Another process takes the steps, as the command does.
	theirs, err := pki.OpenIssuers(dir.Authority(), nil)
	if err != nil {
		t.Fatal(err)
	}
	next, err := pki.CreateNextRoot(dir.Path(), nil, pki.RootOptions{TrustDomain: issuers.TrustDomain()})
	if err != nil {
		t.Fatal(err)
	}
	proposal, err := rootrotation.Propose(old, next)
	if err != nil {
		t.Fatal(err)
	}
	if err := rootrotation.Prepare(theirs, proposal); err != nil {
		t.Fatal(err)
	}
	eventually(t, "bundle.pem holds both roots", func() bool { return len(roots(t, dir.Bundle())) == 2 })
	if err := rootrotation.Activate(theirs, next); err != nil {
		t.Fatal(err)
	}
	eventually(t, "alice's chain is under the new root and carries the cross certificate", func() bool {
		chain := readChain(t, dir, "alice")
		return len(chain) == 3 && chain[1].CheckSignatureFrom(next.Certificate()) == nil && chain[2].CheckSignatureFrom(old.Certificate()) == nil
	})
	if err := theirs.RetireRoot(); err != nil {
		t.Fatal(err)
	}
	if err := pki.AdoptNextRoot(dir.Path()); err != nil {
		t.Fatal(err)
	}
	eventually(t, "bundle.pem holds the new root alone", func() bool {
		now := roots(t, dir.Bundle())
		return len(now) == 1 && now[0].Equal(next.Certificate())
	})
	eventually(t, "the new root is at hand", func() bool { root := ca.Root(); return root != nil && root.Certificate().Equal(next.Certificate()) })
}

func TestARevokedIssuerIsReplacedAndWhatItSignedRenewedAtOnce(t *testing.T) {
	t.Parallel()
	dir := newDir(t)
	ca := newCA(t, dir.Path())
	issuers, log := ca.Issuers(), slog.New(slog.DiscardHandler)
	o := newOperators(dir, issuers, time.Hour)
	if err := o.start(); err != nil {
		t.Fatal(err)
	}
	r := &run{config: Config{LeafTTL: time.Hour}, dir: dir, ca: ca, log: log, plan: &plan{td: issuers.TrustDomain()}}
	if err := r.issueAgent(); err != nil {
		t.Fatal(err)
	}
	chore(t, r.followAuthority)
	chore(t, func(ctx context.Context) { o.keepFresh(ctx, log) })
	theirs, err := pki.OpenIssuers(dir.Authority(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := theirs.Revoke(1, "test"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "another issuer signs", func() bool {
		for _, i := range issuers.Status() {
			if i.State == pki.Active && i.Generation == 2 {
				return true
			}
		}
		return false
	})
	for _, name := range sampleOperators {
		eventually(t, name+"'s certificate is by the new issuer", func() bool {
			chain := readChain(t, dir, name)
			return !superseded(issuers, chain) && !worthless(issuers, chain)
		})
	}
	svid, err := pki.ReadCredential(dir.AgentCredential())
	if err != nil || !worthless(issuers, svid.Certificates) {
		t.Errorf("the agent's certificate of before is worthless: %v, %v", worthless(issuers, svid.Certificates), err)
	}
}

func TestWithoutItsRootAMeshGoesOnAndSaysUntilWhen(t *testing.T) {
	t.Parallel()
	dir := newDir(t)
	newCA(t, dir.Path())
	if err := os.Rename(dir.Root(), filepath.Join(t.TempDir(), "carried-away")); err != nil {
		t.Fatal(err)
	}
	ca := newCA(t, dir.Path())
	if ca.HasRoot() {
		t.Fatal("there is a root")
	}
	if _, err := os.Stat(dir.Root()); err == nil {
		t.Error("another root was made in its place")
	}
	var said bytes.Buffer
	r := &run{config: Config{Out: cli.Plain(&said)}, dir: dir, ca: ca}
	r.tellRoot()
	for _, want := range []string{"no root is at hand", "somebody must by", "rolecall pki issuer csr", "rolecall pki issuer import"} {
		if !strings.Contains(said.String(), want) {
			t.Errorf("%q is missing in %q", want, &said)
		}
	}
}

// Everything has expired, as after a month in which the machine was off.
func TestAfterAMonthOffUpMakesWhatItCanAndNamesTheRest(t *testing.T) {
	t.Parallel()
	dir, td := newDir(t), spiffeid.RequireTrustDomainFromString("mesh.local")
	past := func() time.Time { return time.Now().Add(-31 * 24 * time.Hour) }
	ca, _, err := pki.OpenOrCreate(dir.Path(), pki.Config{TrustDomain: td, Now: past})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ca.Issuers().IssueCredential(pki.Leaf{ID: catalog.ID(td, agentName)}, dir.AgentCredential()); err != nil {
		t.Fatal(err)
	}
	if err := newOperators(dir, ca.Issuers(), time.Hour).start(); err != nil {
		t.Fatal(err)
	}

	// With the root at hand: all of it.
	ca = newCA(t, dir.Path())
	r := &run{config: Config{LeafTTL: time.Hour}, dir: dir, plan: &plan{td: td}, ca: ca}
	if err := errors.Join(r.issueAgent(), newOperators(dir, ca.Issuers(), time.Hour).start()); err != nil {
		t.Fatal(err)
	}
	svid, err := pki.ReadCredential(dir.AgentCredential())
	if err != nil {
		t.Fatal(err)
	}
	for _, cert := range []*x509.Certificate{svid.Certificates[0], readChain(t, dir, "alice")[0]} {
		if !time.Now().Before(cert.NotAfter) {
			t.Errorf("still expired: %v", cert.URIs)
		}
	}

	// Without: exactly what only the operator can do.
	dir = newDir(t)
	if _, _, err := pki.OpenOrCreate(dir.Path(), pki.Config{TrustDomain: td, Now: past}); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(dir.Root(), filepath.Join(t.TempDir(), "carried-away")); err != nil {
		t.Fatal(err)
	}
	r = &run{config: Config{LeafTTL: time.Hour, IssuerTTL: 7 * 24 * time.Hour, Dir: dir.Path()}, dir: dir, log: slog.New(slog.DiscardHandler)}
	err = r.prepare()
	for _, want := range []string{"every issuer has expired", "rolecall pki issuer csr --ca " + dir.Authority(), "rolecall pki issuer sign", "rolecall pki issuer import"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q is missing in %v", want, err)
		}
	}
}
