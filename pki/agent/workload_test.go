//go:build linux || darwin

package agent

import (
	"context"
	"crypto/ecdsa"
	"fmt"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/proto/spiffe/workload"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
	"github.com/spiffe/go-spiffe/v2/workloadapi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

func newSource(t *testing.T, a *testAgent, options ...workloadapi.X509SourceOption) *workloadapi.X509Source {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	source, err := workloadapi.NewX509Source(ctx, append(options, workloadapi.WithClientOptions(workloadapi.WithAddr(a.address())))...)
	if err != nil {
		t.Fatalf("NewX509Source: %v", err)
	}
	t.Cleanup(func() { _ = source.Close() })
	return source
}

func TestGoSPIFFEsSourceIsServedAndRenewedAtHalfOfLife(t *testing.T) {
	t.Parallel()
	var clock setClock
	a := startAgent(t, func(c *Config, _ *testSigner) { c.now = clock.now }) // certificates live for an hour
	a.register(t, "/service/ledger")
	source := newSource(t, a)
	first, err := source.GetX509SVID()
	if err != nil {
		t.Fatal(err)
	}
	if got, want := first.ID, a.id("/service/ledger"); got != want {
		t.Errorf("identity %s, want %s", got, want)
	}
	if diff := cmp.Diff([]string{"localhost"}, first.Certificates[0].DNSNames); diff != "" {
		t.Errorf("DNS names (-want +got):\n%s", diff)
	}
	bundle, err := source.GetX509BundleForTrustDomain(a.ca.TrustDomain())
	if err != nil || !bundle.Equal(a.ca.Bundle()) {
		t.Errorf("bundle differs from the CA's (error %v)", err)
	}
	a.pass(&clock, 34*time.Minute)
	var second *x509svid.SVID
	eventually(t, "a new certificate", func() bool {
		second, err = source.GetX509SVID()
		return err == nil && second.Certificates[0].SerialNumber.Cmp(first.Certificates[0].SerialNumber) != 0
	})
	if key := first.PrivateKey.Public().(*ecdsa.PublicKey); key.Equal(second.PrivateKey.Public()) {
		t.Error("the new certificate is over the old key")
	}
}

func TestANewBundleIsPushed(t *testing.T) {
	t.Parallel()
	a := startAgent(t, nil)
	a.register(t, "/service/ledger")
	source := newSource(t, a)
	client := dial(t, a.address())
	ctx, cancel := context.WithTimeout(withHeader(t.Context()), patience)
	defer cancel()
	stream, err := client.FetchX509Bundles(ctx, &workload.X509BundlesRequest{})
	if err != nil {
		t.Fatal(err)
	}
	want := a.ca.Bundle()
	for range 2 {
		response, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		got, err := x509bundle.ParseRaw(a.ca.TrustDomain(), response.GetBundles()["spiffe://mesh.local"])
		if err != nil || !got.Equal(want) || len(response.GetBundles()) != 1 {
			t.Fatalf("bundles %v (error %v), want the %d roots of the agent", response.GetBundles(), err, len(want.X509Authorities()))
		}
		want = a.ca.Bundle()
		other, _ := a.ca.Intermediate()
		want.AddX509Authority(other)
		a.SetBundle(want)
	}
	eventually(t, "the bundle in go-spiffe's source", func() bool {
		got, err := source.GetX509BundleForTrustDomain(a.ca.TrustDomain())
		return err == nil && got.Equal(want)
	})
}

func TestAProcessWithTwoIdentitiesIsSentBoth(t *testing.T) {
	t.Parallel()
	selector, err := ParseSelector(fmt.Sprintf("unix:uid:%d", os.Getuid()))
	if err != nil {
		t.Fatal(err)
	}
	a := startAgent(t, func(c *Config, _ *testSigner) {
		c.Entries = []Entry{{ID: spiffeid.RequireFromPath(c.TrustDomain, "/service/entry"), Selectors: []Selector{selector}}}
	})
	a.register(t, "/service/first")
	a.register(t, "/service/second")
	a.register(t, "/service/first") // once more: sent once
	client, err := workloadapi.New(t.Context(), workloadapi.WithAddr(a.address()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	svids, err := client.FetchX509SVIDs(ctx)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, s := range svids {
		got = append(got, s.ID.Path())
	}
	if diff := cmp.Diff([]string{"/service/first", "/service/second", "/service/entry"}, got); diff != "" {
		t.Errorf("identities (-want +got):\n%s", diff)
	}
}

func TestDescendantsOfARegisteredProcessAreTheSameWorkload(t *testing.T) {
	t.Parallel()
	a := startAgent(t, nil)
	a.register(t, "/service/ledger")
	if _, got := start(t, "fetch", a.config.Socket); got != "spiffe://mesh.local/service/ledger" {
		t.Errorf("a child is %q", got)
	}
	grandchild := func(cmd *exec.Cmd) {
		cmd.Args = []string{"sh", "-c", cmd.Path + " & wait"}
		cmd.Path = "/bin/sh"
	}
	if _, got := start(t, "fetch", a.config.Socket, grandchild); got != "spiffe://mesh.local/service/ledger" {
		t.Errorf("a grandchild is %q", got)
	}
}

func TestAProcessThatIsRegisteredAMomentLaterNeedsNoSecondCall(t *testing.T) {
	t.Parallel()
	a := startAgent(t, func(c *Config, _ *testSigner) { c.unattestedWait = patience })
	got := make(chan string, 1)
	go func() { got <- fetch(a.config.Socket) }()
	eventually(t, "a stream of a process nobody knows", func() bool {
		return a.streams.count() == 1
	})
	a.register(t, "/service/ledger")
	if id := <-got; id != "spiffe://mesh.local/service/ledger" {
		t.Errorf("got %q", id)
	}
}

func TestTheEndOfARegistrationEndsOpenStreams(t *testing.T) {
	t.Parallel()
	a := startAgent(t, nil)
	registered := a.register(t, "/service/ledger")
	stream := openStream(t, a)
	if err := registered.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); status.Code(err) != codes.PermissionDenied {
		t.Errorf("the open stream got %v, want PermissionDenied", err)
	}
	eventually(t, "the end of the renewals nobody needs", func() bool {
		a.registry.mu.Lock()
		defer a.registry.mu.Unlock()
		return len(a.registry.identities) == 0
	})
}

// openStream opens a stream of certificates and takes its first message.
func openStream(t *testing.T, a *testAgent) workload.SpiffeWorkloadAPI_FetchX509SVIDClient {
	t.Helper()
	ctx, cancel := context.WithTimeout(withHeader(t.Context()), patience)
	t.Cleanup(cancel)
	stream, err := dial(t, a.address()).FetchX509SVID(ctx, &workload.X509SVIDRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); err != nil {
		t.Fatal(err)
	}
	return stream
}

func TestWithoutTheAuthorityTheReasonIsToldAndItRecoversByItself(t *testing.T) {
	t.Parallel()
	a := startAgent(t, func(_ *Config, s *testSigner) { s.err = errDown })
	held := a.registry.hold(names{id: a.id("/service/ledger"), dns: []string{"localhost"}})
	defer a.registry.release(held)
	<-held.tried // so that there is a reason by the time of the registration, which waits a moment only
	registered := a.register(t, "/service/ledger")
	if want := "sign certificate of spiffe://mesh.local/service/ledger: the authority is down"; registered.Warning != want {
		t.Errorf("warning %q, want %q", registered.Warning, want)
	}
	if got := fetch(a.config.Socket); got != "Unavailable" {
		t.Errorf("got %q, want Unavailable", got)
	}
	list, err := List(t.Context(), a.config.Control)
	if err != nil || len(list) != 1 || list[0].Problem == "" || !list[0].NotAfter.IsZero() {
		t.Errorf("List: %+v, %v; want the registration with its problem", list, err)
	}
	a.signer.fail(nil)
	eventually(t, "a certificate after the authority came back", func() bool {
		return fetch(a.config.Socket) == "spiffe://mesh.local/service/ledger"
	})
}

func TestAnOutageShorterThanHalfOfLifeIsNotNoticed(t *testing.T) {
	t.Parallel()
	var clock setClock
	a := startAgent(t, func(c *Config, _ *testSigner) { c.now = clock.now }) // certificates live for an hour
	a.register(t, "/service/ledger")
	stream := openStream(t, a)
	a.signer.fail(errDown)
	a.pass(&clock, 34*time.Minute)
	eventually(t, "a renewal that fails", func() bool {
		list := a.registry.list()
		list[0].identity.mu.Lock()
		defer list[0].identity.mu.Unlock()
		return list[0].identity.err != nil
	})
	if got := fetch(a.config.Socket); got != "spiffe://mesh.local/service/ledger" {
		t.Errorf("during the outage: %q, want the certificate that is still good", got)
	}
	a.signer.fail(nil)
	if _, err := stream.Recv(); err != nil {
		t.Errorf("the open stream after the outage: %v, want the next certificate", err)
	}
}

func TestOneSignatureServesAllStreamsOfAWorkload(t *testing.T) {
	t.Parallel()
	a := startAgent(t, nil)
	a.register(t, "/service/ledger")
	for range 5 {
		openStream(t, a)
	}
	if got := a.signer.signed(); got != 1 {
		t.Errorf("%d certificates were signed, want 1", got)
	}
}
