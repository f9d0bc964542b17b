//go:build linux || darwin

package agentd

import (
	"bytes"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/workloadapi"

	authorityv1 "example.com/rolecall/gen/authority/v1"
	"example.com/rolecall/internal/node/nodetest"
	"example.com/rolecall/pki"
	"example.com/rolecall/rolecalltest"
)

// with returns the roots of the authority and those of further CAs of its trust domain.
func (f *fakeAuthority) with(t *testing.T, more ...*rolecalltest.CA) *x509bundle.Bundle {
	t.Helper()
	bundle := f.ca.Bundle()
	for _, ca := range more {
		bundle.AddX509Authority(ca.Root())
	}
	return bundle
}

func keeper(t *testing.T, f *fakeAuthority) *bundleKeeper {
	t.Helper()
	path := filepath.Join(t.TempDir(), "bundle.pem")
	if err := pki.WriteBundle(path, f.ca.Bundle()); err != nil {
		t.Fatal(err)
	}
	k, err := openBundle(path, f.ca.TrustDomain(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestAttackASequenceNumberThatGoesBackwards(t *testing.T) {
	t.Parallel()
	f := startFake(t)
	k := keeper(t, f)
	second := f.with(t, rolecalltest.NewCA(t, "mesh.local"))
	if err := k.take(f.bundleOf(t, 20, second)); err != nil {
		t.Fatal(err)
	}
	evil := rolecalltest.NewCA(t, "mesh.local").Bundle()
	for name, b := range map[string]*authorityv1.Bundle{
		"a lower number":                  f.bundleOf(t, 19, evil),
		"the same number for other roots": f.bundleOf(t, 20, evil),
		"no number":                       f.bundleOf(t, 0, evil),
		"another trust domain":            {TrustDomain: "evil.local", Sequence: 30, Roots: f.bundle.Roots, JwtKeys: f.bundle.JwtKeys},
		"roots of another trust domain":   f.bundleOf(t, 30, rolecalltest.NewCA(t, "evil.local").Bundle()),
		"an issuer among the roots":       f.bundleOf(t, 30, x509bundle.FromX509Authorities(f.ca.TrustDomain(), append(second.X509Authorities(), f.issuer))),
		"no roots":                        f.bundleOf(t, 30, x509bundle.New(f.ca.TrustDomain())),
		"no keys of JWT-SVIDs":            {TrustDomain: "mesh.local", Sequence: 30, Roots: f.bundle.Roots},
		"duplicate keys in the document":  {TrustDomain: "mesh.local", Sequence: 30, Roots: f.bundle.Roots, JwtKeys: []byte(`{"keys":[],"keys":[]}`)},
		"a short hash of an issuer":       {TrustDomain: "mesh.local", Sequence: 30, Roots: f.bundle.Roots, JwtKeys: f.bundle.JwtKeys, RevokedIssuers: [][]byte{{1}}},
	} {
		err := k.take(b)
		if err == nil || !k.bundle().Equal(second) {
			t.Errorf("%s was taken (error %v)", name, err)
		}
		if strings.HasPrefix(name, "a lower") && !errors.Is(err, errBackwards) {
			t.Errorf("%s: %v, want errBackwards", name, err)
		}
	}
	for sequence, want := range map[uint64]bool{19: false, 20: false} {
		var der [][]byte
		for _, root := range evil.X509Authorities() {
			der = append(der, root.Raw)
		}
		if err := k.takeRoots(der, sequence); err != nil || k.bundle().Equal(evil) != want {
			t.Errorf("with a certificate, number %d: %v, taken %v", sequence, err, !want)
		}
	}
	if written, err := pki.ReadBundle(k.path); err != nil || !written.Equal(second) {
		t.Errorf("the file holds other roots (error %v)", err)
	}
	if err := k.take(f.bundleOf(t, 21, f.ca.Bundle())); err != nil || !k.bundle().Equal(f.ca.Bundle()) {
		t.Errorf("a higher number was not taken: %v", err)
	}
}

func TestRootsThatComeWithACertificateAreTakenIfTheyAreNewer(t *testing.T) {
	t.Parallel()
	f := startFake(t)
	k := keeper(t, f)
	if err := k.take(f.bundleOf(t, 20, f.ca.Bundle())); err != nil {
		t.Fatal(err)
	}
	second := f.bundleOf(t, 21, f.with(t, rolecalltest.NewCA(t, "mesh.local")))
	if err := k.takeRoots(second.GetRoots(), 21); err != nil || len(k.bundle().X509Authorities()) != 2 {
		t.Errorf("newer roots: %v, %d roots", err, len(k.bundle().X509Authorities()))
	}
	if err := k.take(second); err != nil {
		t.Errorf("the whole bundle of the same number afterwards: %v", err)
	}
	if err := k.takeRoots(nil, 22); err == nil {
		t.Error("no roots at all were taken")
	}
}

func TestANewBundleReachesWorkloadsTheFileAndTheReport(t *testing.T) {
	t.Parallel()
	f := startFake(t)
	c := f.config(t)
	log := &used{}
	c.Log = slog.New(slog.NewTextHandler(log, nil))
	stop := run(t, c)
	register(t, c, "/service/ledger")
	source, err := workloadapi.NewX509Source(t.Context(), workloadapi.WithClientOptions(workloadapi.WithAddr("unix://"+c.Socket)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = source.Close() })
	second := f.with(t, rolecalltest.NewCA(t, "mesh.local"))
	f.say(f.bundleOf(t, 11, second))
	eventually(t, "the bundle in go-spiffe's source", func() bool {
		got, err := source.GetX509BundleForTrustDomain(c.TrustDomain)
		return err == nil && got.Equal(second)
	})
	digest := pki.BundleDigest(second.X509Authorities())
	eventually(t, "the bundle in a report", func() bool {
		last := f.lastReport()
		return last.GetSequence() == 11 && bytes.Equal(last.GetDigest(), digest[:]) && len(last.GetHandedOut()) == 1 &&
			last.GetHandedOut()[0].GetSpiffeId() == "spiffe://mesh.local/service/ledger" &&
			bytes.Equal(last.GetHandedOut()[0].GetDigest(), digest[:]) && last.GetHandedOut()[0].GetStreams() == 1
	})
	f.say(f.bundleOf(t, 9, f.ca.Bundle()))
	eventually(t, "a bundle that goes backwards is refused", func() bool { return log.logged(errBackwards.Error()) > 0 })
	f.say(f.bundleOf(t, 12, f.with(t, rolecalltest.NewCA(t, "mesh.local"), rolecalltest.NewCA(t, "mesh.local"))))
	eventually(t, "the bundle after one that went backwards", func() bool {
		got, err := source.GetX509BundleForTrustDomain(c.TrustDomain)
		return err == nil && len(got.X509Authorities()) == 3
	})
	stop()
	restarted, err := openBundle(c.Bundle, c.TrustDomain, c.Log)
	if err != nil || len(restarted.bundle().X509Authorities()) != 3 {
		t.Errorf("a restart begins with %d roots (error %v), want the newest 3", len(restarted.bundle().X509Authorities()), err)
	}
}

func TestTheStreamOfBundlesIsOpenedAgainAfterTheAuthorityWasGone(t *testing.T) {
	t.Parallel()
	f := startFake(t)
	c := f.config(t)
	relay := nodetest.NewRelay(t) // whoever else takes a port takes none of the agent's authority while that is away
	leadTo := func(target string) { relay.To(&nodetest.Service{Addr: strings.TrimPrefix(target, "passthrough:///")}) }
	leadTo(f.target)
	c.Authority = relay.Target()
	run(t, c)
	watching := func(n int) func() bool {
		return func() bool {
			f.mu.Lock()
			defer f.mu.Unlock()
			return f.watches >= n
		}
	}
	eventually(t, "a stream of bundles", watching(1))
	f.mu.Lock()
	server := f.server
	f.mu.Unlock()
	server.Stop()
	relay.To(nil)
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f.serve(t, lis)
	leadTo(lis.Addr().String())
	eventually(t, "a stream of bundles of the authority that is back", watching(2))
}

func TestTheAuthoritysOwnBundleFileIsNeverWritten(t *testing.T) {
	t.Parallel()
	f := startFake(t)
	path := filepath.Join(t.TempDir(), "bundle.pem")
	if err := errors.Join(pki.WriteBundle(path, f.ca.Bundle()), os.Mkdir(filepath.Join(filepath.Dir(path), "issuers"), 0o700)); err != nil {
		t.Fatal(err)
	}
	k, err := openBundle(path, f.ca.TrustDomain(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if err := k.take(f.bundleOf(t, 20, f.with(t, rolecalltest.NewCA(t, "mesh.local")))); err != nil {
		t.Fatal(err)
	}
	if got, err := pki.ReadBundle(path); err != nil || !got.Equal(f.ca.Bundle()) {
		t.Errorf("the file was written (error %v)", err)
	}
}
