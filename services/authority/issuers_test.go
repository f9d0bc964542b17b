package authority_test

import (
	"crypto/sha256"
	"crypto/x509"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	authorityv1 "example.com/rolecall/gen/authority/v1"
	"example.com/rolecall/internal/node"
	"example.com/rolecall/pki"
)

const (
	prepared = authorityv1.IssuerState_ISSUER_STATE_PREPARED
	active   = authorityv1.IssuerState_ISSUER_STATE_ACTIVE
	retiring = authorityv1.IssuerState_ISSUER_STATE_RETIRING
	revoked  = authorityv1.IssuerState_ISSUER_STATE_REVOKED
)

// operator is a client that must not fail.
type operator struct {
	t      *testing.T
	client authorityv1.AuthorityServiceClient
}

func (o operator) states() []authorityv1.IssuerState {
	o.t.Helper()
	list, err := o.client.ListIssuers(within(o.t), &authorityv1.ListIssuersRequest{})
	if err != nil {
		o.t.Fatal(err)
	}
	var states []authorityv1.IssuerState
	for _, issuer := range list.GetIssuers() {
		states = append(states, issuer.GetState())
	}
	return states
}

func (o operator) prepare(der []byte) *authorityv1.PrepareIssuerResponse {
	o.t.Helper()
	response, err := o.client.PrepareIssuer(within(o.t), &authorityv1.PrepareIssuerRequest{Certificate: der})
	if err != nil {
		o.t.Fatal(err)
	}
	return response
}

// The whole life of a second issuer, with a root that is somewhere else.
func TestAnIssuerIsPreparedActivatedAndRevokedOverTheWire(t *testing.T) {
	t.Parallel()
	var log logged
	r := openOwn(t, func(c *node.Config) { c.Log = slog.New(slog.NewTextHandler(&log, nil)) })
	alice := operator{t, r.client(t, r.caller(t, "/operator/alice"))}
	ledger := r.client(t, r.caller(t, "/service/ledger"))
	bundles := r.watch(t, "/service/billing")
	next(t, bundles)

	asked := alice.prepare(nil)
	if again := alice.prepare(nil); asked.GetGeneration() != 2 || !slices.Equal(again.GetCsr(), asked.GetCsr()) {
		t.Errorf("asked twice: generation %d, and the same CSR: %v", asked.GetGeneration(), slices.Equal(again.GetCsr(), asked.GetCsr()))
	}
	cert, err := r.root.SignIssuerCSR(asked.GetCsr(), pki.DefaultIssuerLife)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // the same certificate again is no error
		imported := alice.prepare(cert.Raw).GetIssuer()
		if imported.GetGeneration() != 2 || imported.GetState() != prepared || imported.GetSubject() != cert.Subject.String() {
			t.Errorf("imported %v, want the certificate %s, prepared", imported, cert.Subject)
		}
	}
	issuer := func() []byte { return issuerKeyOf(t, ledger) }
	first := issuer()
	if diff := cmp.Diff([]authorityv1.IssuerState{active, prepared}, alice.states()); diff != "" {
		t.Errorf("after the import (-want +got):\n%s", diff)
	}

	for range 2 {
		response, err := alice.client.ActivateIssuer(within(t), &authorityv1.ActivateIssuerRequest{Generation: 2})
		if err != nil || response.GetIssuer().GetState() != active {
			t.Fatalf("activate: %v, %v", response, err)
		}
	}
	if diff := cmp.Diff([]authorityv1.IssuerState{retiring, active}, alice.states()); diff != "" {
		t.Errorf("after the activation (-want +got):\n%s", diff)
	}
	if second := issuer(); slices.Equal(first, second) {
		t.Error("the first issuer still signs")
	}

	for range 2 {
		response, err := alice.client.RevokeIssuer(within(t), &authorityv1.RevokeIssuerRequest{Generation: 1, Reason: "the disk was sold"})
		if err != nil || response.GetIssuer().GetState() != revoked || !slices.Equal(response.GetIssuer().GetKeySha256(), first) {
			t.Fatalf("revoke: %v, %v", response, err)
		}
	}
	if diff := cmp.Diff([]authorityv1.IssuerState{revoked, active}, alice.states()); diff != "" {
		t.Errorf("after the revocation (-want +got):\n%s", diff)
	}
	told := next(t, bundles)
	if len(told.GetRevokedIssuers()) != 1 || !slices.Equal(told.GetRevokedIssuers()[0], first) {
		t.Errorf("the bundle names %x, want the first issuer's key %x", told.GetRevokedIssuers(), first)
	}
	list, err := alice.client.ListIssuers(within(t), &authorityv1.ListIssuersRequest{})
	if err != nil {
		t.Fatal(err)
	}
	root := sha256.Sum256(r.root.Certificate().Raw)
	if last := list.GetIssuers()[1]; !slices.Equal(last.GetRootSha256(), root[:]) || !last.GetNotAfter().AsTime().Equal(cert.NotAfter) {
		t.Errorf("the second is %v, want its root %x and end %s", last, root, cert.NotAfter)
	}
	act := list.GetActBy().AsTime()
	if hand := cert.NotBefore.Add(cert.NotAfter.Sub(cert.NotBefore) * 5 / 6); act.Sub(hand).Abs() > time.Minute || list.GetActReason() == "" {
		t.Errorf("somebody must act by %s (%s), want about %s", act, list.GetActReason(), hand)
	}
	for _, line := range []string{"issuer requested", "issuer imported", "issuer activated", "issuer revoked"} {
		if !strings.Contains(log.text(), `msg="`+line+`" service=authority by=spiffe://mesh.local/operator/alice`) {
			t.Errorf("the log does not say %q and by whom:\n%s", line, log.text())
		}
	}
	if !strings.Contains(log.text(), "the disk was sold") {
		t.Error("the log does not give the reason")
	}
}

// issuerKeyOf renews a certificate and returns the SHA-256 of the public key that signed it.
func issuerKeyOf(t *testing.T, client authorityv1.AuthorityServiceClient) []byte {
	t.Helper()
	response, err := client.IssueCertificate(within(t), &authorityv1.IssueCertificateRequest{Csr: csr(t, nil, "/service/ledger", nil)})
	if err != nil {
		t.Fatal(err)
	}
	spki, err := x509.MarshalPKIXPublicKey(parse(t, response.GetChain())[1].PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(spki)
	return sum[:]
}

// The only issuer is revoked: nothing can be signed, whoever asks is told to come again, and all is well as soon as the
// root has signed another, without a restart.
func TestWithoutAnIssuerTheAuthorityWaitsForOne(t *testing.T) {
	t.Parallel()
	r := openOwn(t)
	alice := operator{t, r.client(t, r.caller(t, "/operator/alice"))}
	ledger := r.client(t, r.caller(t, "/service/ledger"))
	if _, err := alice.client.RevokeIssuer(within(t), &authorityv1.RevokeIssuerRequest{Generation: 1, Reason: "stolen"}); err != nil {
		t.Fatal(err)
	}
	ask := func(opts ...grpc.CallOption) error {
		_, err := ledger.IssueCertificate(within(t), &authorityv1.IssueCertificateRequest{Csr: csr(t, nil, "/service/ledger", nil)}, opts...)
		return err
	}
	if err := ask(); status.Code(err) != codes.Unavailable {
		t.Errorf("got %v, want %s", err, codes.Unavailable)
	}
	if text := r.metrics(t); !strings.Contains(text, "rolecall_authority_failures_total 1") {
		t.Errorf("the metrics do not count it:\n%s", text)
	}
	list, err := alice.client.ListIssuers(within(t), &authorityv1.ListIssuersRequest{})
	if err != nil || list.GetActBy().AsTime().After(time.Now()) || list.GetActReason() == "" {
		t.Errorf("got %v, %v: want that somebody must act now", list, err)
	}
	cert, err := r.root.SignIssuerCSR(alice.prepare(nil).GetCsr(), pki.DefaultIssuerLife)
	if err != nil {
		t.Fatal(err)
	}
	if got := alice.prepare(cert.Raw).GetIssuer().GetState(); got != active {
		t.Errorf("the new issuer is %s, want %s: no other can sign", got, active)
	}
	if err := ask(); err != nil {
		t.Errorf("after the import: %v", err)
	}
}

func TestMetricsTellWhenSomebodyMustAct(t *testing.T) {
	t.Parallel()
	r := open(t)
	ledger := r.client(t, r.caller(t, "/service/ledger"))
	_ = issuerKeyOf(t, ledger)
	_, _ = ledger.IssueCertificate(within(t), &authorityv1.IssueCertificateRequest{Csr: []byte("x")})
	_, _ = ledger.IssueJwtSvid(within(t), &authorityv1.IssueJwtSvidRequest{SpiffeId: "spiffe://mesh.local/service/ledger", Audience: []string{"x"}})
	text := r.metrics(t)
	for _, line := range []string{
		`rolecall_authority_certificates_total{result="issued"} 1`, `rolecall_authority_certificates_total{result="refused"} 1`,
		`rolecall_authority_jwt_svids_total{result="issued"} 1`, `rolecall_authority_jwt_svids_total{result="refused"} 0`,
		"rolecall_authority_failures_total 0", "rolecall_authority_act_in_seconds 50", "rolecall_authority_bundle_sequence 1",
		"rolecall_authority_registrations_stale_ratio 0",
	} {
		if !strings.Contains(text, line) {
			t.Errorf("the metrics do not say %q", line)
		}
	}
	if t.Failed() {
		for line := range strings.Lines(text) {
			if strings.Contains(line, "authority") {
				t.Log(line)
			}
		}
	}
}
