package proof_test

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"example.com/rolecall/interceptors/proof"
	"example.com/rolecall/rolecalltest"
)

// TestKeyServerLying has it answer with chains that do not hold.
func TestKeyServerLying(t *testing.T) {
	t.Parallel()
	m := newMesh(t)
	other := rolecalltest.NewCA(t, "other.local")
	impostor := rolecalltest.NewCA(t, "mesh.local") // another root of the same name
	via := m.workload(relay)
	never, _ := m.ca.Issue(payer)
	for _, c := range []struct {
		name  string
		chain func(signer *x509.Certificate) [][]byte
	}{
		{"a key that the signer never had", func(*x509.Certificate) [][]byte { return raws(never) }},
		{"an expired one", func(signer *x509.Certificate) [][]byte {
			expired, _ := m.ca.Issue(payer, func(c *x509.Certificate) {
				c.NotBefore, c.NotAfter = time.Now().Add(-2*time.Hour), time.Now().Add(-time.Hour)
			})
			return raws(expired)
		}},
		{"one of another trust domain", func(*x509.Certificate) [][]byte { cert, _ := other.Issue(payer); return raws(cert) }},
		{"one of another workload", func(*x509.Certificate) [][]byte { cert, _ := m.ca.Issue(second); return raws(cert) }},
		{"one that another root of the same name signed", func(*x509.Certificate) [][]byte { cert, _ := impostor.Issue(payer); return raws(cert) }},
		{"a CA", func(*x509.Certificate) [][]byte { cert, _ := m.ca.Intermediate(); return raws(cert) }},
		{"the root", func(*x509.Certificate) [][]byte { return raws(m.ca.Root()) }},
		{"no chain", func(*x509.Certificate) [][]byte { return [][]byte{} }},
		{"no certificate", func(*x509.Certificate) [][]byte { return [][]byte{{1, 2, 3}} }},
		{"twenty certificates", func(signer *x509.Certificate) [][]byte {
			var chain [][]byte
			for range 20 {
				chain = append(chain, signer.Raw)
			}
			return chain
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := m.attacker(payer)
			svid, _ := a.source.GetX509SVID()
			m.keys.lying(func(string, string) [][]byte { return c.chain(svid.Certificates[0]) })
			defer m.keys.lying(nil)
			_, err := send(timeout(t), m.bare(via.source), pay, dave, "rolecall-proof", a.prove(pay, dave))
			refused(t, err, codes.Unauthenticated, "PROOF_SIGNER_UNKNOWN")
		})
	}
	// Another key of the same signer's, under the name of the one that the proof is signed with.
	a := m.attacker(payer)
	m.keys.tell(m.ca.ID(payer).String(), kidOf(t, &a.key().PublicKey), raws(never))
	_, err := send(timeout(t), m.bare(via.source), pay, dave, "rolecall-proof", a.prove(pay, dave))
	refused(t, err, codes.Unauthenticated, "PROOF_SIGNER_UNKNOWN")
	if n := m.bank.reached.Load(); n != 0 {
		t.Errorf("a handler was reached %d times", n)
	}
	// The first one was never announced, and is the signer's all the same: who issued it says so.
	if n := m.feature.Known(); n > 1 {
		t.Errorf("%d keys are remembered, want none that does not hold", n)
	}
}

// TestAKeyServerThatLiesCannotMakeAVerifierKeepMegabytes has it add junk to a good chain.
func TestAKeyServerThatLiesCannotMakeAVerifierKeepMegabytes(t *testing.T) {
	t.Parallel()
	m := newMesh(t)
	signer, via := m.workload(payer).announced(), m.workload(relay)
	svid, _ := signer.source.GetX509SVID()
	chain := raws(svid.Certificates...)
	for len(chain) < 6 {
		junk, _ := m.ca.Issue("/service/junk", func(c *x509.Certificate) {
			c.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 2, 3, 4}, Value: make([]byte, 300<<10)}}
		})
		chain = append(chain, junk.Raw)
	}
	m.keys.lying(func(string, string) [][]byte { return chain })
	ctx := timeout(t)
	_, err := proof.Forward(ctx, via.conn, signer.signed(pay, 1))
	for infoOf(err).GetReason() == "VERIFIER_UNAVAILABLE" && ctx.Err() == nil { // so much junk may take longer than there is time
		_, err = proof.Forward(ctx, via.conn, signer.signed(pay, 1))
	}
	refused(t, err, codes.Unauthenticated, "PROOF_SIGNER_UNKNOWN")
	m.audit.find(t, map[string]any{"reason": "PROOF_SIGNER_UNKNOWN"})
	if n := m.feature.Known(); n != 0 {
		t.Errorf("%d keys are remembered", n)
	}
}

// TestOneGoodChainIsFoundAmongAThousandBadOnes has the key server bury it.
func TestOneGoodChainIsFoundAmongAThousandBadOnes(t *testing.T) {
	t.Parallel()
	m := newMesh(t)
	signer, via := m.workload(payer).announced(), m.workload(relay)
	other, _ := m.ca.Issue(second)
	for i := range 1000 {
		m.keys.tell(m.ca.ID(payer).String(), fmt.Sprintf("invented %d", i), raws(other))
	}
	if _, err := proof.Forward(timeout(t), via.conn, signer.signed(pay, 1)); err != nil {
		t.Error(err)
	}
	if n := m.feature.Known(); n != 1 {
		t.Errorf("%d keys are remembered, want one", n)
	}
}
