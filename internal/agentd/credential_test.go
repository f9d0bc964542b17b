package agentd

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"example.com/rolecall/pki"
	"example.com/rolecall/rolecalltest"
)

// patience is how long a test waits for what should happen at once: long, for a machine that does much else.
const patience = time.Minute

// signer signs with a CA in memory, for the ID that it likes.
type signer struct {
	ca *rolecalltest.CA
	id spiffeid.ID
}

func (s signer) Sign(_ context.Context, csr []byte) ([]*x509.Certificate, error) { return s.sign(csr) }

func (s signer) sign(csr []byte, changes ...func(*x509.Certificate)) ([]*x509.Certificate, error) {
	issuer, key := s.ca.Intermediate()
	return s.signUnder(issuer, key, csr, changes...)
}

func (s signer) signUnder(issuer *x509.Certificate, key crypto.Signer, csr []byte, changes ...func(*x509.Certificate)) ([]*x509.Certificate, error) {
	request, err := pki.ReadCSR(csr, s.ca.TrustDomain())
	if err != nil {
		return nil, err
	}
	leaf, _ := s.ca.IssueUnder(issuer, key, s.id.Path(), changes...)
	der, err := x509.CreateCertificate(rand.Reader, leaf, issuer, request.PublicKey, key)
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(der)
	return []*x509.Certificate{cert, issuer}, err
}

// agentCredential returns a credential of /service/agent in a folder of its own, and who renews it.
func agentCredential(t *testing.T) (*credential, signer) {
	t.Helper()
	s := signer{ca: rolecalltest.NewCA(t, "mesh.local")}
	s.id = s.ca.ID("/service/agent")
	path := filepath.Join(t.TempDir(), "agent.pem")
	issuer, issuerKey := s.ca.Intermediate()
	leaf, key := s.ca.IssueUnder(issuer, issuerKey, "/service/agent")
	if err := pki.WriteCredential(path, []*x509.Certificate{leaf, issuer}, key); err != nil {
		t.Fatal(err)
	}
	c, err := openCredential(path)
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
	err = c.renew(t.Context(), s, slog.New(slog.DiscardHandler))
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
	if err := c.renew(t.Context(), s, slog.New(slog.NewTextHandler(&log, nil))); err != nil {
		t.Fatalf("renew: %v", err)
	}
	fresh, _ := c.GetX509SVID()
	if fresh.Certificates[0].SerialNumber.Cmp(old.Certificates[0].SerialNumber) == 0 {
		t.Error("the old certificate is in use, want the new one")
	}
	if !strings.Contains(log.String(), "could not be written") || !strings.Contains(log.String(), c.path) {
		t.Errorf("the log does not tell that the file could not be written: %s", &log)
	}
}

func TestAttackTheOwnCertificateUnderARevokedIssuer(t *testing.T) {
	t.Parallel()
	c, s := agentCredential(t)
	issuer, issuerKey := s.ca.Intermediate()
	under := underSigner{s, issuer, issuerKey}
	if err := c.renew(t.Context(), under, slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	revoked := map[[32]byte]struct{}{sha256.Sum256(issuer.RawSubjectPublicKeyInfo): {}}
	c.renewal.SetRevoked(revoked)
	if err := c.renew(t.Context(), under, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), "revoked") {
		t.Errorf("a certificate under the revoked issuer: %v, want a refusal because of that issuer", err)
	}
	signs := make(chan struct{}, 100)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		c.keepRenewed(ctx, countingSigner{s, signs}, slog.New(slog.DiscardHandler))
	}()
	began := time.Now()
	select {
	case <-signs:
	case <-time.After(patience):
		t.Fatal("nothing was renewed")
	}
	t.Logf("renewed %s after the issuer was revoked", time.Since(began).Round(time.Millisecond))
	cancel()
	<-done
}

// underSigner signs what it is asked for under one issuer.
type underSigner struct {
	signer
	issuer *x509.Certificate
	key    crypto.Signer
}

func (s underSigner) Sign(_ context.Context, csr []byte) ([]*x509.Certificate, error) {
	return s.signUnder(s.issuer, s.key, csr)
}

// countingSigner tells of every request.
type countingSigner struct {
	signer
	signs chan struct{}
}

func (s countingSigner) Sign(ctx context.Context, csr []byte) ([]*x509.Certificate, error) {
	chain, err := s.signer.Sign(ctx, csr)
	s.signs <- struct{}{}
	return chain, err
}
