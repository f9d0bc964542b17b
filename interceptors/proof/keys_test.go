package proof_test

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"math/big"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"example.com/rolecall/interceptors/proof"
	"example.com/rolecall/rolecalltest"
)

func codeOf(err error) codes.Code { return status.Code(err) }

func sumOf(cert *x509.Certificate) string {
	sum := sha256.Sum256(cert.RawSubjectPublicKeyInfo)
	return hex.EncodeToString(sum[:])
}

func keySum(source *rolecalltest.Source) string {
	svid, _ := source.GetX509SVID()
	return sumOf(svid.Certificates[0])
}

func TestSignerUnknown(t *testing.T) {
	t.Parallel()
	m := newMesh(t)
	via, signer := m.workload(relay), m.workload(payer).announced()
	m.keys.refusing(errors.New("the disk is full"))
	m.keys.forget()
	_, err := proof.Forward(timeout(t), via.conn, signer.signed(pay, 1))
	refused(t, err, codes.Unauthenticated, "PROOF_SIGNER_UNKNOWN")
	// An unknown key is not asked for again at once: who names it waits.
	asked, start := m.keys.asked.Load(), time.Now()
	for range 20 {
		_, err := proof.Forward(timeout(t), via.conn, signer.signed(pay, 1))
		refused(t, err, codes.Unauthenticated, "PROOF_SIGNER_UNKNOWN")
	}
	if n, most := m.keys.asked.Load()-asked, int64(time.Since(start)/(20*time.Millisecond))+1; n > most {
		t.Errorf("20 proofs of an unknown key made for %d questions, want %d at most", n, most)
	}
	// Without a key server nobody can relay.
	alone := newMesh(t, func(c *meshConfig) { c.noKeys = true })
	via, signer = alone.workload(relay), alone.workload(payer)
	_, err = proof.Forward(timeout(t), via.conn, signer.signed(pay, 1))
	refused(t, err, codes.Unauthenticated, "PROOF_SIGNER_UNKNOWN")
	if _, err := signer.pay(timeout(t), pay); err != nil {
		t.Errorf("the peer's own proof, without a key server: %v", err)
	}
}

func TestKeyServerDown(t *testing.T) {
	t.Parallel()
	m := newMesh(t)
	via, signer, late := m.workload(relay), m.workload(payer).announced(), m.workload(second).announced()
	if _, err := proof.Forward(timeout(t), via.conn, signer.signed(pay, 1)); err != nil {
		t.Fatal(err)
	}
	m.stopKeys()
	// Cached keys go on, unknown ones fail closed.
	for range 3 {
		request := signer.signed(pay, 1)
		if _, err := proof.Forward(timeout(t), via.conn, request); err != nil {
			t.Errorf("a key that is remembered: %v", err)
		}
	}
	_, err := proof.Forward(timeout(t), via.conn, late.signed(pay, 1))
	refused(t, err, codes.Unavailable, "VERIFIER_UNAVAILABLE")
	// Peers sign for themselves, also those that have started meanwhile, and with a new certificate.
	fresh := m.workload(nobody, func(*proof.Config) {})
	_, err = fresh.pay(timeout(t), pay)
	refused(t, err, codes.PermissionDenied, "ROLE_REQUIRED")
	signer.source.Renew()
	if _, err := signer.pay(timeout(t), pay); err != nil {
		t.Errorf("a peer with a certificate that was never announced: %v", err)
	}
}

// TestAKeyIsLookedAtAgainWheneverItIsUsed has its root leave the bundle.
func TestAKeyIsLookedAtAgainWheneverItIsUsed(t *testing.T) {
	t.Parallel()
	m := newMesh(t)
	partner := rolecalltest.NewCA(t, "mesh.local")
	m.source.Trust(m.ca, partner)
	via := m.workload(relay)
	cert, key := partner.Issue(payer)
	m.keys.lying(func(string, string) [][]byte { return raws(cert) })
	a := m.attacker(payer)
	a.source.Use(key, cert)
	conn := m.bare(via.source)
	if _, err := send(timeout(t), conn, pay, dave, "rolecall-proof", a.prove(pay, dave)); err != nil {
		t.Fatal(err)
	}
	m.source.Trust(m.ca)
	_, err := send(timeout(t), conn, pay, dave, "rolecall-proof", a.prove(pay, dave))
	refused(t, err, codes.Unauthenticated, "PROOF_SIGNER_UNKNOWN")
	// And its end comes.
	short, shortKey := m.ca.Issue(second, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(30 * time.Minute) })
	m.keys.lying(func(string, string) [][]byte { return raws(short) })
	b := m.attacker(second)
	b.source.Use(shortKey, short)
	if _, err := send(timeout(t), conn, pay, dave, "rolecall-proof", b.prove(pay, dave)); err != nil {
		t.Fatal(err)
	}
	m.clock.forward(31 * time.Minute)
	_, err = send(timeout(t), conn, pay, dave, "rolecall-proof", b.prove(pay, dave))
	refused(t, err, codes.Unauthenticated, "PROOF_SIGNER_UNKNOWN")
}

// TestAKeyIsFoundAsSoonAsItIsAnnounced has somebody ask for each key just before.
func TestAKeyIsFoundAsSoonAsItIsAnnounced(t *testing.T) {
	t.Parallel()
	m := newMesh(t)
	conn := m.bare(m.ca.Source(relay))
	for i := range 10 {
		path := []string{payer, second}[i%2]
		a := m.attacker(path)
		_, err := send(timeout(t), conn, pay, dave, "rolecall-proof", a.prove(pay, dave))
		refused(t, err, codes.Unauthenticated, "PROOF_SIGNER_UNKNOWN")
		svid, _ := a.source.GetX509SVID()
		m.keys.tell(m.ca.ID(path).String(), kidOf(t, svid.PrivateKey.Public()), raws(svid.Certificates...))
		if _, err := send(timeout(t), conn, pay, dave, "rolecall-proof", a.prove(pay, dave)); err != nil {
			t.Errorf("key %d, after it was announced: %v", i, err)
		}
	}
}

// TestAKeyWithANewerCertificateIsFoundAtOnce renews certificates over the same key.
func TestAKeyWithANewerCertificateIsFoundAtOnce(t *testing.T) {
	t.Parallel()
	m := newMesh(t)
	issuer, issuerKey := m.ca.Intermediate()
	template, key := m.ca.IssueUnder(issuer, issuerKey, payer)
	a, conn := m.attacker(payer), m.bare(m.ca.Source(relay))
	use := func(serial int64, life time.Duration) {
		next := *template
		next.NotAfter, next.SerialNumber = m.clock.now().Add(life), big.NewInt(serial)
		der, err := x509.CreateCertificate(rand.Reader, &next, issuer, key.Public(), issuerKey)
		must(t, err)
		leaf, err := x509.ParseCertificate(der)
		must(t, err)
		a.source.Use(key, leaf, issuer)
		m.keys.tell(m.ca.ID(payer).String(), kidOf(t, key.Public()), raws(leaf, issuer))
	}
	for serial := range int64(4) {
		use(4711+serial, 10*time.Minute)
		if _, err := send(timeout(t), conn, pay, dave, "rolecall-proof", a.prove(pay, dave)); err != nil {
			t.Errorf("certificate %d over the key: %v", serial, err)
		}
		m.clock.forward(11 * time.Minute)
	}
	_, err := send(timeout(t), conn, pay, dave, "rolecall-proof", a.prove(pay, dave))
	refused(t, err, codes.Unauthenticated, "PROOF_SIGNER_UNKNOWN")
}

// TestWhatTheCacheHasNoRoomForIsFoundAllTheSame has a signer with more keys than are remembered.
func TestWhatTheCacheHasNoRoomForIsFoundAllTheSame(t *testing.T) {
	t.Parallel()
	m := newMesh(t, func(c *meshConfig) { c.config.CacheSize = 16 })
	conn := m.bare(m.ca.Source(relay))
	var replicas []*attacker
	for range 40 {
		a := m.attacker(payer)
		svid, _ := a.source.GetX509SVID()
		m.keys.tell(m.ca.ID(payer).String(), kidOf(t, svid.PrivateKey.Public()), raws(svid.Certificates...))
		replicas = append(replicas, a)
	}
	for i, a := range replicas {
		if _, err := send(timeout(t), conn, pay, dave, "rolecall-proof", a.prove(pay, dave)); err != nil {
			t.Errorf("replica %d: %v", i, err)
		}
	}
	if n := m.feature.Known(); n > 16 {
		t.Errorf("%d keys are remembered, want 16 at most", n)
	}
}
