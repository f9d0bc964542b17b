package agentd

import (
	"bytes"
	"context"
	"crypto/x509"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"example.com/rolecall/pki"
)

// signer signs with a certificate authority at hand, for the ID that it likes.
type signer struct {
	issuers *pki.Issuers
	id      spiffeid.ID
}

func (s signer) Sign(_ context.Context, csr []byte) ([]*x509.Certificate, error) {
	request, err := pki.ReadCSR(csr, s.issuers.TrustDomain())
	if err != nil {
		return nil, err
	}
	return s.issuers.Issue(pki.Leaf{ID: s.id, PublicKey: request.PublicKey})
}

// agentCredential returns a credential of /service/agent in a folder of its own, and who renews it.
func agentCredential(t *testing.T) (*credential, signer) {
	t.Helper()
	ca, _, err := pki.OpenOrCreate(t.TempDir(), pki.Config{TrustDomain: spiffeid.RequireTrustDomainFromString("mesh.local")})
	if err != nil {
		t.Fatal(err)
	}
	s := signer{ca.Issuers(), spiffeid.RequireFromString("spiffe://mesh.local/service/agent")}
	dir := t.TempDir()
	path, bundle := filepath.Join(dir, "agent.pem"), filepath.Join(dir, "bundle.pem")
	if _, err := s.issuers.IssueCredential(pki.Leaf{ID: s.id}, path); err != nil {
		t.Fatal(err)
	}
	if err := pki.WriteBundle(bundle, s.issuers.Bundle()); err != nil {
		t.Fatal(err)
	}
	c, err := openCredential(path, bundle, s.issuers.TrustDomain())
	if err != nil {
		t.Fatal(err)
	}
	return c, s
}

func TestACertificateOfAnotherIDIsNeitherUsedNorWritten(t *testing.T) {
	t.Parallel()
	c, s := agentCredential(t)
	before, err := os.ReadFile(c.path)
	if err != nil {
		t.Fatal(err)
	}
	s.id = spiffeid.RequireFromString("spiffe://mesh.local/service/ledger")
	_, err = c.renew(t.Context(), s, slog.New(slog.DiscardHandler))
	if err == nil || !strings.Contains(err.Error(), "a certificate of spiffe://mesh.local/service/ledger for spiffe://mesh.local/service/agent") {
		t.Errorf("renew: %v, want the two IDs", err)
	}
	if after, err := os.ReadFile(c.path); err != nil || !bytes.Equal(before, after) {
		t.Errorf("the file has changed (error %v)", err)
	}
	if svid, _ := c.GetX509SVID(); svid.ID.Path() != "/service/agent" {
		t.Errorf("%s is in use", svid.ID)
	}
}

func TestANewCertificateIsUsedAlthoughItsFileCannotBeWritten(t *testing.T) {
	t.Parallel()
	c, s := agentCredential(t)
	old, _ := c.GetX509SVID()
	if err := os.RemoveAll(filepath.Dir(c.path)); err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	notAfter, err := c.renew(t.Context(), s, slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatalf("renew: %v", err)
	}
	fresh, _ := c.GetX509SVID()
	if fresh.Certificates[0].SerialNumber.Cmp(old.Certificates[0].SerialNumber) == 0 || !fresh.Certificates[0].NotAfter.Equal(notAfter) {
		t.Error("the old certificate is in use, want the new one")
	}
	if !strings.Contains(log.String(), "could not be written") || !strings.Contains(log.String(), c.path) {
		t.Errorf("the log does not tell that the file could not be written: %s", &log)
	}
}
