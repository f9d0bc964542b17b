package pki

import (
	"crypto/x509"
	"errors"
	"math/big"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// Whoever has an issuer's key chooses every word of a leaf: the signature alone tells whose it is.
func TestAttackForgeriesUnderARevokedIssuer(t *testing.T) {
	t.Parallel()
	now := recordDay
	s := memoryIssuers(t, func() time.Time { return now })
	issuer := s.state.Load().issuers[0]
	key, err := NewKey()
	must(t, err)
	leaf := Leaf{ID: workload(t, "/service/ledger"), PublicKey: key.Public(), Life: time.Hour}
	genuine, err := s.Issue(leaf)
	must(t, err)
	disguise := *issuer.Certificate
	disguise.SubjectKeyId = []byte("the key of another")
	other, err := NewKey()
	must(t, err)
	forge := func(parent *x509.Certificate, serial *big.Int, public any) *x509.Certificate {
		template, err := leafTemplate(leaf, issuer, now)
		must(t, err)
		template.SerialNumber = serial
		cert, err := sign(template, parent, public, issuer.key)
		must(t, err)
		return cert
	}
	forged := map[string]*x509.Certificate{
		"a serial number that was never given out":             forge(issuer.Certificate, newSerial(), key.Public()),
		"the serial number of another, over a key of its own":  forge(issuer.Certificate, genuine[0].SerialNumber, other.Public()),
		"a leaf that names another issuer's key as its signer": forge(&disguise, newSerial(), key.Public()),
	}
	for attack, cert := range forged {
		if err := s.CheckOnRecord(cert); err != nil {
			t.Errorf("%s, before anybody revoked the issuer: %v", attack, err)
		}
	}
	next := *s.state.Load()
	next.stored = &storedState{Version: stateVersion, Revoked: map[int]storedRevoked{1: {At: now, Reason: "stolen"}}, digest: Digest{1}}
	s.state.Store(&next)
	for range 2 { // read from the disk, and remembered
		for attack, cert := range forged {
			if err := s.CheckOnRecord(cert); !errors.Is(err, ErrNotOnRecord) {
				t.Errorf("%s: %v, want ErrNotOnRecord", attack, err)
			}
		}
		if err := s.CheckOnRecord(genuine[0]); err != nil {
			t.Errorf("a leaf that was issued here: %v", err)
		}
	}
	if err := memoryIssuers(t, nil).CheckOnRecord(genuine[0]); err != nil {
		t.Errorf("a leaf of another authority is nobody's forgery here: %v", err)
	}
	now = now.Add(recordLook) // what was not there may have come meanwhile
	must(t, os.WriteFile(filepath.Join(s.dir, recordDir, recordDay.Format(recordLayout)), []byte("removed by eve\n"), 0o600))
	for attack, cert := range forged {
		if err := s.CheckOnRecord(cert); err == nil || errors.Is(err, ErrNotOnRecord) {
			t.Errorf("%s, with a record that cannot be read: %v, want an error that says so", attack, err)
		}
	}
}
