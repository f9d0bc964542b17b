//go:build unix

package e2e_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/spiffebundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/workloadapi"

	ledgerv1 "example.com/rolecall/gen/ledger/v1"
	"example.com/rolecall/interceptors"
	"example.com/rolecall/internal/mesh"
	"example.com/rolecall/pki"
)

// readBalance is what this test binary does as a workload of one mesh that calls the ledger of another:
//
//	balance ADDRESS SERVER-ID ACCOUNT
//
// It prints the verdict.
func readBalance(args []string) int {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	source, err := workloadapi.NewX509Source(ctx)
	if err != nil {
		fmt.Println("error:", err)
		return 1
	}
	defer func() { _ = source.Close() }()
	guard, err := interceptors.New(source, nil)
	if err != nil {
		fmt.Println("error:", err)
		return 1
	}
	defer func() { _ = guard.Close() }()
	conn, err := guard.NewClient(args[0], spiffeid.RequireFromString(args[1]))
	if err != nil {
		fmt.Println("error:", err)
		return 1
	}
	defer func() { _ = conn.Close() }()
	answer, err := ledgerv1.NewLedgerServiceClient(conn).GetBalance(ctx, &ledgerv1.GetBalanceRequest{AccountId: args[2]})
	v := verdictOf(err)
	fmt.Println(v.Code, v.Reason, answer.GetBalance().GetMinorUnits())
	return 0
}

// neighbour is one of two meshes that federate.
type neighbour struct {
	td, dir, endpoint, document string
	running                     *runningMesh
}

// newNeighbour makes the certificate authority of a mesh and its bundle document, so that the other can begin with it.
func newNeighbour(t *testing.T, td string) *neighbour {
	t.Helper()
	n := &neighbour{td: td, dir: filepath.Join(t.TempDir(), "mesh"), endpoint: freeAddress(t)}
	d, err := mesh.Create(n.dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := pki.OpenOrCreate(d.Path(), pki.Config{TrustDomain: spiffeid.RequireTrustDomainFromString(td)}); err != nil {
		t.Fatal(err)
	}
	n.document = filepath.Join(n.dir, "bundle.json")
	mustRun(t, "pki", "bundle", "--dir", n.dir, "--format", "spiffe", "--out", n.document)
	return n
}

// up brings the mesh up, with the other's bundle: from its file at first, from its endpoint afterwards.
func (n *neighbour) up(t *testing.T, other *neighbour) {
	t.Helper()
	n.running = startMeshIn(t, n.dir, "--trust-domain", n.td, "--bundle-endpoint", n.endpoint,
		"--federate", fmt.Sprintf("%s=%s,https://%s/,spiffe://%s/service/authority", other.td, other.document, other.endpoint, other.td))
}

func TestTwoTrustDomainsFederate(t *testing.T) {
	t.Parallel()
	bank, shop := newNeighbour(t, "bank.example"), newNeighbour(t, "shop.example")
	bank.up(t, shop)
	shop.up(t, bank)
	alice := bank.running.caller(t, "alice").ledger(t)
	_, account := openAccounts(t, alice, "")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	ledger := bank.running.service(t, "ledger")
	const reports = "spiffe://shop.example/service/reports"
	call := func() string {
		out, _ := runRolecallWith(t, []string{workloadVariable + "=balance " + ledger.Address + " " + ledger.ID + " " + account},
			"run", "--dir", shop.dir, "--id", reports, "--", self)
		return strings.TrimSpace(out)
	}
	// The two know each other, and that gives nobody a role.
	if got, want := call(), "PermissionDenied ROLE_REQUIRED 0"; got != want {
		t.Errorf("before there is a binding: %q, want %q", got, want)
	}
	roles := readFile(t, bank.running.file.Roles)
	edit := func(text string) {
		if err := mesh.WriteFile(bank.running.file.Roles, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, test := range []struct{ name, member, want string }{
		{"a pattern names nobody of another trust domain", "spiffe://bank.example/service/*", "PermissionDenied ROLE_REQUIRED 0"},
		{"another workload of that trust domain is not meant", "spiffe://shop.example/service/other", "PermissionDenied ROLE_REQUIRED 0"},
		{"a binding names the caller in full", reports, "OK  0"},
	} {
		edit(strings.Replace(roles, "bindings:\n", "bindings:\n  - role: ledger.reader\n    members: [\""+test.member+"\"]\n", 1))
		await(t, test.name, func() error {
			if got := call(); got != test.want {
				return fmt.Errorf("%q, want %q", got, test.want)
			}
			return nil
		})
	}

	t.Run("the endpoint serves the bundle of today to who verifies it", func(t *testing.T) {
		bundle, err := pki.ReadBundle(bank.running.file.Bundle)
		if err != nil {
			t.Fatal(err)
		}
		roots := x509.NewCertPool()
		for _, root := range bundle.X509Authorities() {
			roots.AddCert(root)
		}
		client := &http.Client{Timeout: patience, Transport: &http.Transport{TLSClientConfig: &tls.Config{
			InsecureSkipVerify: true, //nolint:gosec // the name is a SPIFFE ID, checked below
			VerifyConnection: func(state tls.ConnectionState) error {
				leaf := state.PeerCertificates[0]
				if got := leaf.URIs[0].String(); got != "spiffe://bank.example/service/authority" {
					return fmt.Errorf("the endpoint is %s", got)
				}
				between := x509.NewCertPool()
				for _, cert := range state.PeerCertificates[1:] {
					between.AddCert(cert)
				}
				_, err := leaf.Verify(x509.VerifyOptions{Roots: roots, Intermediates: between, CurrentTime: time.Now()})
				return err
			},
		}}}
		response, err := client.Get("https://" + bank.endpoint + "/")
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = response.Body.Close() }()
		body, err := io.ReadAll(io.LimitReader(response.Body, 1<<20))
		if err != nil {
			t.Fatal(err)
		}
		got, err := spiffebundle.Parse(spiffeid.RequireTrustDomainFromString("bank.example"), body)
		if err != nil {
			t.Fatalf("go-spiffe does not read what the endpoint serves: %v\n%s", err, body)
		}
		if !bundle.Equal(got.X509Bundle()) || len(got.JWTAuthorities()) == 0 {
			t.Errorf("it serves %d roots and %d keys of JWT-SVIDs", len(got.X509Authorities()), len(got.JWTAuthorities()))
		}
	})
}
