//go:build unix

package e2e_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"github.com/spiffe/go-spiffe/v2/bundle/jwtbundle"
	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/spiffetls/tlsconfig"
	"github.com/spiffe/go-spiffe/v2/svid/jwtsvid"
	"github.com/spiffe/go-spiffe/v2/workloadapi"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"example.com/rolecall/internal/mesh"
)

// addEntry entitles this test's own program to an identity, in the entries.yaml of a mesh that is up.
func addEntry(t *testing.T, running *runningMesh, id spiffeid.ID) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if self, err = filepath.EvalSymlinks(self); err != nil {
		t.Fatal(err)
	}
	text := fmt.Sprintf("entries:\n  - spiffeId: %s\n    selectors: [\"unix:uid:%d\", \"unix:path:%s\"]\n    dnsNames: [localhost]\n", id, os.Getuid(), self)
	d, err := mesh.Open(running.dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := mesh.WriteFile(d.Entries(), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestGoSPIFFEWorksAsItDoesWithSPIRE uses go-spiffe's own sources against the agent's socket, with the defaults that they
// have, through several renewals.
func TestGoSPIFFEWorksAsItDoesWithSPIRE(t *testing.T) {
	t.Parallel()
	running := startMesh(t, shortLife...)
	td := spiffeid.RequireTrustDomainFromString(running.file.TrustDomain)
	id := spiffeid.RequireFromPath(td, "/service/shop")
	api := workloadapi.WithClientOptions(workloadapi.WithAddr(running.file.WorkloadAPI))
	ctx, cancel := context.WithTimeout(t.Context(), 2*upTimeout)
	defer cancel()

	addEntry(t, running, id) // while the agent runs: it reads the file again
	await(t, "the agent knows the new entry", func() error {
		_, err := workloadapi.FetchX509SVID(ctx, workloadapi.WithAddr(running.file.WorkloadAPI))
		return err
	})
	source, err := workloadapi.NewX509Source(ctx, api)
	if err != nil {
		t.Fatalf("NewX509Source: %v", err)
	}
	defer func() { _ = source.Close() }()
	serials := map[string]bool{}
	for { // the source also tells of an update that brings the same certificate
		svid, err := source.GetX509SVID()
		if err != nil || svid.ID != id {
			t.Fatalf("GetX509SVID: %v, %v; want %s", svid, err, id)
		}
		serials[svid.Certificates[0].SerialNumber.Text(16)] = true
		if len(serials) == 3 {
			break
		}
		select {
		case <-source.Updated():
		case <-ctx.Done():
			t.Fatalf("the source was not updated; serials so far: %v", serials)
		}
	}
	t.Logf("three certificates, pushed: %v", serials)

	t.Run("go-spiffe's own TLS reaches the ledger", func(t *testing.T) {
		ledger := running.service(t, "ledger")
		config := tlsconfig.MTLSClientConfig(source, source, tlsconfig.AuthorizeID(parseID(t, ledger.ID)))
		config.MinVersion = tls.VersionTLS13
		conn, err := grpc.NewClient(ledger.Address, grpc.WithTransportCredentials(credentials.NewTLS(config)))
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close() }()
		if answer, err := healthpb.NewHealthClient(conn).Check(ctx, &healthpb.HealthCheckRequest{}); err != nil || answer.GetStatus() != healthpb.HealthCheckResponse_SERVING {
			t.Errorf("health of the ledger: %v, %v", answer, err)
		}
	})
	t.Run("openssl verifies what the source has", func(t *testing.T) {
		svid, err := source.GetX509SVID()
		if err != nil {
			t.Fatal(err)
		}
		chain, key, err := svid.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		bundle, err := source.GetX509BundleForTrustDomain(td)
		if err != nil {
			t.Fatal(err)
		}
		roots, err := bundle.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		dir := t.TempDir()
		for name, data := range map[string][]byte{"chain.pem": chain, "key.pem": key, "roots.pem": roots} {
			if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		cert := filepath.Join(dir, "chain.pem")
		openssl(t, "verify", "-x509_strict", "-purpose", "sslserver", "-CAfile", filepath.Join(dir, "roots.pem"), "-untrusted", cert, cert)
		if leaf, private := openssl(t, "x509", "-in", cert, "-noout", "-pubkey"), openssl(t, "pkey", "-in", filepath.Join(dir, "key.pem"), "-pubout"); leaf != private {
			t.Errorf("the key is not that of the certificate:\n%s%s", leaf, private)
		}
	})
	t.Run("JWT-SVIDs are made, and verified by both sides", func(t *testing.T) {
		tokens, err := workloadapi.NewJWTSource(ctx, api)
		if err != nil {
			t.Fatalf("NewJWTSource: %v", err)
		}
		defer func() { _ = tokens.Close() }()
		svid, err := tokens.FetchJWTSVID(ctx, jwtsvid.Params{Audience: "gateway", ExtraAudiences: []string{"reports"}})
		if err != nil {
			t.Fatalf("FetchJWTSVID: %v", err)
		}
		if svid.ID != id || !slices.Equal(svid.Audience, []string{"gateway", "reports"}) {
			t.Errorf("the token is %s's for %q", svid.ID, svid.Audience)
		}
		if _, err := jwtsvid.ParseAndValidate(svid.Marshal(), tokens, []string{"reports"}); err != nil {
			t.Errorf("ParseAndValidate: %v", err)
		}
		if _, err := jwtsvid.ParseAndValidate(svid.Marshal(), tokens, []string{"elsewhere"}); err == nil {
			t.Error("ParseAndValidate for another audience: no error")
		}
		if got, err := workloadapi.ValidateJWTSVID(ctx, svid.Marshal(), "gateway", workloadapi.WithAddr(running.file.WorkloadAPI)); err != nil || got.ID != id {
			t.Errorf("ValidateJWTSVID: %v, %v", got, err)
		}
		if _, err := workloadapi.ValidateJWTSVID(ctx, svid.Marshal(), "elsewhere", workloadapi.WithAddr(running.file.WorkloadAPI)); status.Code(err) != codes.InvalidArgument {
			t.Errorf("ValidateJWTSVID for another audience: %v, want InvalidArgument", err)
		}
		if _, err := tokens.FetchJWTSVID(ctx, jwtsvid.Params{Audience: "gateway", Subject: spiffeid.RequireFromPath(td, "/service/ledger")}); status.Code(err) != codes.PermissionDenied {
			t.Errorf("a token of somebody else: %v, want PermissionDenied", err)
		}
	})
	t.Run("watchers are told", func(t *testing.T) {
		watching, stop := context.WithCancel(ctx)
		defer stop()
		w := &apiWatcher{td: td}
		var done sync.WaitGroup
		for _, watch := range []func() error{
			func() error {
				return workloadapi.WatchX509Context(watching, w, workloadapi.WithAddr(running.file.WorkloadAPI))
			},
			func() error {
				return workloadapi.WatchX509Bundles(watching, w, workloadapi.WithAddr(running.file.WorkloadAPI))
			},
			func() error {
				return workloadapi.WatchJWTBundles(watching, w, workloadapi.WithAddr(running.file.WorkloadAPI))
			},
		} {
			done.Go(func() {
				if err := watch(); err != nil && status.Code(err) != codes.Canceled && !errors.Is(err, context.Canceled) {
					t.Errorf("watch: %v", err)
				}
			})
		}
		await(t, "each watcher has had its first message, and that of certificates a renewal too", w.complete)
		stop()
		done.Wait()
	})
}

// apiWatcher counts what go-spiffe's watchers are told. Safe for concurrent use.
type apiWatcher struct {
	td spiffeid.TrustDomain

	mu                     sync.Mutex
	contexts, bundles, jwt int
	failed                 error
}

func (w *apiWatcher) note(count *int, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	*count++
	w.failed = errors.Join(w.failed, err)
}

func (w *apiWatcher) OnX509ContextUpdate(c *workloadapi.X509Context) {
	_, err := c.Bundles.GetX509BundleForTrustDomain(w.td)
	w.note(&w.contexts, err)
}

func (w *apiWatcher) OnX509ContextWatchError(err error) { w.fail(err) }

func (w *apiWatcher) OnX509BundlesUpdate(s *x509bundle.Set) {
	_, err := s.GetX509BundleForTrustDomain(w.td)
	w.note(&w.bundles, err)
}

func (w *apiWatcher) OnX509BundlesWatchError(err error) { w.fail(err) }

func (w *apiWatcher) OnJWTBundlesUpdate(s *jwtbundle.Set) {
	_, err := s.GetJWTBundleForTrustDomain(w.td)
	w.note(&w.jwt, err)
}

func (w *apiWatcher) OnJWTBundlesWatchError(err error) { w.fail(err) }

// fail notes an error that is none of the end.
func (w *apiWatcher) fail(err error) {
	if status.Code(err) != codes.Canceled && !errors.Is(err, context.Canceled) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.failed = errors.Join(w.failed, err)
	}
}

func (w *apiWatcher) complete() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.failed != nil || w.contexts < 2 || w.bundles < 1 || w.jwt < 1 {
		return fmt.Errorf("%d certificates, %d bundles, %d JWT bundles, %w", w.contexts, w.bundles, w.jwt, w.failed)
	}
	return nil
}
