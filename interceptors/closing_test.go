package interceptors_test

import (
	"crypto/x509"
	"errors"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"google.golang.org/grpc/codes"

	"example.com/rolecall/interceptors"
)

const getBalance, watchEntries = "/ledger.v1.LedgerService/GetBalance", "/ledger.v1.LedgerService/WatchEntries"

func TestARefusalThatEndsTheConnectionClosesIt(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		change func(*testing.T, *mesh)
		code   codes.Code
		reason string
	}{
		{"the peer is denied", func(t *testing.T, m *mesh) {
			must(t, m.server.PutInForce(roles+"denied:\n  - member: spiffe://mesh.local/service/reader\n"))
		}, codes.PermissionDenied, "IDENTITY_DENIED"},
		{"the key of its CA is denied", func(t *testing.T, m *mesh) {
			must(t, m.server.PutInForce(roles+"denied:\n  - keySha256: "+keyOf(m.ca.Root())+"\n"))
		}, codes.Unauthenticated, "PEER_NOT_TRUSTED"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			m := newMesh(t)
			w := m.wire(t, m.cert(m.ca.Issue(reader)))
			w.say(w.ask(getBalance))
			ended, err := w.answer()
			must(t, err)
			must(t, ended.err)
			c.change(t, m)
			w.say(w.ask(getBalance))
			ended, err = w.answer()
			must(t, err)
			refused(t, ended.err, c.code, c.reason)
			w.closed()
		})
	}
}

func TestARefusalForWantOfARoleLeavesTheConnectionOpen(t *testing.T) {
	t.Parallel()
	m := newMesh(t)
	w := m.wire(t, m.cert(m.ca.Issue(reader)))
	for range 2 {
		w.say(w.ask("/ledger.v1.LedgerService/Transfer"))
		ended, err := w.answer()
		must(t, err)
		refused(t, ended.err, codes.PermissionDenied, "ROLE_REQUIRED")
	}
	w.say(w.ask(getBalance))
	ended, err := w.answer()
	must(t, err)
	must(t, ended.err)
}

func TestAConnectionThatNobodyUsesIsClosedWhenItsCertificateExpires(t *testing.T) {
	t.Parallel()
	m := newMesh(t)
	cert, key := m.ca.Issue(reader, short)
	w := m.wire(t, m.cert(cert, key))
	w.closed()
	if early := time.Until(cert.NotAfter); early > 0 {
		t.Errorf("the connection was closed %s early", early)
	}
	eventually(t, "empty books", func() bool { return m.server.Books() == interceptors.Books{} })
}

// TestAClockSetForwardEndsConnections is also what a machine does that slept: only the wall clock goes on.
func TestAClockSetForwardEndsConnections(t *testing.T) {
	t.Parallel()
	var wall clock
	m := newMesh(t, wall.configure)
	idle, open := m.wire(t, m.cert(m.ca.Issue(reader))), m.wire(t, m.cert(m.ca.Issue(writer)))
	stream := open.ask(watchEntries)
	open.say(stream)
	eventually(t, "open stream", func() bool { return m.ledger.reached.Load() == 1 && m.server.Books().Connections == 2 })
	wall.forward(2 * time.Hour)
	m.audit.find(t, map[string]any{"event": "stream", "reason": "PEER_CERTIFICATE_EXPIRED", "workload": "spiffe://mesh.local/service/writer"})
	idle.closed()
	open.closed()
	handshake.check(t, m.shake(t, m.cert(m.ca.Issue(reader)), nil))
}

// TestAConnectionIsDrainedAndThenClosedBeforeTheServersCertificateMustBeRenewed has a certificate of 16 s, which makes
// an age of about a second, and three more for what is under way.
func TestAConnectionIsDrainedAndThenClosedBeforeTheServersCertificateMustBeRenewed(t *testing.T) {
	t.Parallel()
	m := newMesh(t)
	brief := m.ca.Source(server, notBackdated, func(c *x509.Certificate) { c.NotAfter = c.NotBefore.Add(16 * time.Second) })
	srv := m.newGuard(brief, interceptors.BindingsYAML([]byte(roles))).NewServer()
	registerLedger(srv, m.ledger)
	brief.Renew() // it is the server's age that ends the connection, not an expiry
	m.addr = m.serve(srv)
	w := m.wire(t, m.cert(m.ca.Issue(reader)))
	w.say(w.ask(watchEntries))
	_, err := w.answer()
	var drained goAway
	if !errors.As(err, &drained) || drained.code != http2.ErrCodeNo {
		t.Fatalf("got %v, want that the connection is drained", err)
	}
	w.closed() // with the stream still open
}
