package authority_test

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"

	authorityv1 "example.com/rolecall/gen/authority/v1"
	"example.com/rolecall/internal/node"
	"example.com/rolecall/pki"
	"example.com/rolecall/services/authority"
)

// raw sends a CSR for the own identity over a connection that a guard of ours would not make: whatever the certificate is.
func (r *realm) raw(t *testing.T, c caller) error {
	t.Helper()
	config := &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS13, NextProtos: []string{"h2"}} //nolint:gosec // the server is what is tested
	path := "/service/billing"
	if c.SVID != nil {
		shown := tls.Certificate{PrivateKey: c.PrivateKey}
		for _, cert := range c.Certificates {
			shown.Certificate = append(shown.Certificate, cert.Raw)
		}
		config.Certificates, path = []tls.Certificate{shown}, c.ID.Path()
	}
	conn, err := grpc.NewClient("passthrough:///"+r.service.Addr, grpc.WithTransportCredentials(credentials.NewTLS(config)))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	_, err = authorityv1.NewAuthorityServiceClient(conn).IssueCertificate(within(t), &authorityv1.IssueCertificateRequest{Csr: csr(t, nil, path, nil)})
	return err
}

// openOld starts an authority, by today's clock, on the CA that was made yesterday.
func openOld(t *testing.T, changes ...func(*node.Config)) *realm {
	t.Helper()
	old.open(t)
	today, err := pki.OpenIssuers(old.authority(), nil)
	if err != nil {
		t.Fatal(err)
	}
	return start(t, today, authority.Config{Dir: old.authority()}, changes...)
}

// The identity that renews itself must be one that the authority can still see.
func TestAttackACSRByACallerWhoIsNobody(t *testing.T) {
	t.Parallel()
	ledger := pki.Leaf{ID: spiffeid.RequireFromPath(domain, "/service/ledger")}
	expired, stranger := callerOf(t, old.open(t).Issuers(), ledger), callerOf(t, foreign.open(t).Issuers(), ledger)
	issuer, thief := callerOf(t, old.open(t).Issuers(), ledger), callerOf(t, old.open(t).Issuers(), ledger)
	issuer.Certificates, thief.PrivateKey = issuer.Certificates[1:], newKey(t)
	var log logged
	r := openOld(t, func(c *node.Config) { c.Log = slog.New(slog.NewTextHandler(&log, nil)) })
	for name, c := range map[string]caller{
		"expired":                       expired,
		"not yet attested":              {},
		"attested by another root":      stranger,
		"an issuer presented as a leaf": issuer,
		"a certificate without its key": thief,
	} {
		t.Run(name, func(t *testing.T) {
			if err := r.raw(t, c); status.Code(err) != codes.Unavailable {
				t.Errorf("got %v, want no connection", err)
			}
		})
	}
	if log.signatures() > 0 {
		t.Errorf("the authority signed:\n%s", log.text())
	}
}

// A denial takes effect on the connection that is open, unary and stream.
func TestAttackACSRByADeniedCaller(t *testing.T) {
	t.Parallel()
	var log logged
	r := open(t, func(c *node.Config) { c.Log = slog.New(slog.NewTextHandler(&log, nil)) })
	ledger := r.client(t, r.caller(t, "/service/ledger"))
	stream, err := ledger.WatchBundle(within(t), &authorityv1.WatchBundleRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); err != nil {
		t.Fatal(err)
	}
	r.deny(t, "member: spiffe://mesh.local/service/ledger")
	if err := end(stream); verdict(err) != "PermissionDenied IDENTITY_DENIED" {
		t.Errorf("the open stream ended with %v", err)
	}
	_, err = ledger.IssueCertificate(within(t), &authorityv1.IssueCertificateRequest{Csr: csr(t, nil, "/service/ledger", nil)})
	if got := verdict(err); got != "PermissionDenied IDENTITY_DENIED" && got != "Unavailable" || log.signatures() > 0 {
		t.Errorf("a CSR: %v, and the log is\n%s", err, log.text())
	}
}

// The issuer's key is denied in roles.yaml: every leaf under it is refused at once, on open connections too.
func TestAttackADeniedIssuerKeyOnOpenConnections(t *testing.T) {
	t.Parallel()
	r := open(t)
	who := r.caller(t, "/service/agent")
	client := r.client(t, who)
	stream, err := client.WatchBundle(within(t), &authorityv1.WatchBundleRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); err != nil {
		t.Fatal(err)
	}
	issuer := who.Certificates[1]
	spki, err := x509.MarshalPKIXPublicKey(issuer.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	r.deny(t, fmt.Sprintf("keySha256: %x", sha256.Sum256(spki)))
	err = end(stream)
	if got := verdict(err); got != "Unauthenticated PEER_NOT_TRUSTED" && got != "PermissionDenied IDENTITY_DENIED" {
		t.Errorf("the open stream ended with %v", err)
	}
	t.Logf("refused %s after the file was written: %v", time.Since(began).Round(time.Millisecond), err)
	_, err = client.IssueCertificate(within(t), &authorityv1.IssueCertificateRequest{Csr: csr(t, nil, "/service/billing", nil)})
	if err == nil {
		t.Error("the authority signed for a leaf of a denied issuer")
	}
}

// deny adds one line to roles.yaml.
func (r *realm) deny(t *testing.T, line string) {
	t.Helper()
	text := strings.TrimSpace(roles) + "\ndenied:\n  - " + line + "\n"
	write(t, r.mesh.Roles+".new", text)
	if err := os.Rename(r.mesh.Roles+".new", r.mesh.Roles); err != nil {
		t.Fatal(err)
	}
}

// until waits for a condition and tells how long it took.
func until(t *testing.T, what string, holds func() bool) {
	t.Helper()
	began := time.Now()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		if time.Since(began) > patience {
			t.Fatalf("%s: not within %s", what, patience)
		}
		<-tick.C
	}
	t.Logf("%s after %s", what, time.Since(began).Round(time.Millisecond))
}
