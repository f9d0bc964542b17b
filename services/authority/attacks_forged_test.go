package authority_test

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/jwtsvid"

	authorityv1 "example.com/rolecall/gen/authority/v1"
	"example.com/rolecall/internal/node"
	"example.com/rolecall/pki"
)

// stolen is what a thief signs with who has a copy of the authority's folder.
func stolen(t *testing.T) *pki.Issuers {
	t.Helper()
	issuers, err := pki.OpenIssuers(copyOfCommon(t), nil)
	if err != nil {
		t.Fatal(err)
	}
	return issuers
}

// replaceIssuer lets a second issuer sign and revokes the first, as an operator does whose issuer has leaked.
func (r *realm) replaceIssuer(t *testing.T) {
	t.Helper()
	der, _, err := r.issuers.RequestIssuer()
	if err != nil {
		t.Fatal(err)
	}
	cert, err := r.root.SignIssuerCSR(der, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.issuers.ImportIssuer(cert); err != nil {
		t.Fatal(err)
	}
	if _, err := r.issuers.Activate(2); err != nil {
		t.Fatal(err)
	}
	if _, err := r.issuers.Revoke(1, "the disk was sold"); err != nil {
		t.Fatal(err)
	}
}

// Until roles.yaml denies the key of a stolen issuer, its forgeries connect. They must not come out of the authority as
// certificates of the next issuer, nor change anything; what was issued here must.
func TestAttackForgeriesOfAStolenIssuerAreLaunderedIntoCertificatesOfTheNext(t *testing.T) {
	t.Parallel()
	var log logged
	r := openOwn(t, func(c *node.Config) { c.Log = slog.New(slog.NewTextHandler(&log, nil)) })
	thief := stolen(t)
	forged := func(path string) authorityv1.AuthorityServiceClient {
		return r.client(t, callerOf(t, thief, pki.Leaf{ID: spiffeid.RequireFromPath(domain, path)}))
	}
	genuine := func(path string) authorityv1.AuthorityServiceClient { return r.client(t, r.caller(t, path)) }
	ledger, ticket, alice := genuine("/service/ledger"), genuine("/join/host3"), genuine("/operator/alice")
	r.replaceIssuer(t)
	digest := make([]byte, 32)
	own := func(path string) *authorityv1.IssueCertificateRequest {
		return &authorityv1.IssueCertificateRequest{Csr: csr(t, nil, path, nil)}
	}
	for _, attack := range []struct {
		name string
		call func() error
	}{
		{"an operator is renewed", func() error {
			_, err := forged("/operator/alice").IssueCertificate(within(t), own("/operator/alice"))
			return err
		}},
		{"an agent asks for a service", func() error {
			_, err := forged("/agent/host2").IssueCertificate(within(t), own("/service/ledger"))
			return err
		}},
		{"a ticket becomes an agent", func() error {
			_, err := forged("/join/evil").Join(within(t), &authorityv1.JoinRequest{Csr: csr(t, nil, "/agent/evil", nil)})
			return err
		}},
		{"a service gets a token", func() error {
			_, err := forged("/service/ledger").IssueJwtSvid(within(t), &authorityv1.IssueJwtSvidRequest{SpiffeId: "spiffe://mesh.local/service/ledger", Audience: []string{"bank"}})
			return err
		}},
		{"an agent reports", func() error {
			_, err := forged("/agent/host2").ReportTrust(within(t), &authorityv1.ReportTrustRequest{Digest: digest})
			return err
		}},
		{"an operator asks for an issuer", func() error {
			_, err := forged("/operator/alice").PrepareIssuer(within(t), &authorityv1.PrepareIssuerRequest{})
			return err
		}},
		{"an operator activates an issuer", func() error {
			_, err := forged("/operator/alice").ActivateIssuer(within(t), &authorityv1.ActivateIssuerRequest{Generation: 2})
			return err
		}},
		{"an operator revokes the next issuer", func() error {
			_, err := forged("/operator/alice").RevokeIssuer(within(t), &authorityv1.RevokeIssuerRequest{Generation: 2, Reason: "why not"})
			return err
		}},
	} {
		t.Run(attack.name, func(t *testing.T) {
			before := log.signatures()
			if err := attack.call(); verdict(err) != "PermissionDenied" || !strings.Contains(err.Error(), "not on record") || log.signatures() > before {
				t.Errorf("got %v, and %d signatures; want a refusal", err, log.signatures()-before)
			}
		})
	}
	if !strings.Contains(log.text(), "was not issued here; deny the issuer's key in roles.yaml") {
		t.Error("the log does not say what to do")
	}
	response, err := ledger.IssueCertificate(within(t), own("/service/ledger"))
	if err != nil || !strings.HasPrefix(parse(t, response.GetChain())[1].Subject.CommonName, "issuer 2 ") {
		t.Errorf("a service that was issued here is renewed: %v, want a certificate of issuer 2", err)
	}
	if _, err := ticket.Join(within(t), &authorityv1.JoinRequest{Csr: csr(t, nil, "/agent/host3", nil)}); err != nil {
		t.Errorf("a ticket that was issued here: %v", err)
	}
	if _, err := alice.ActivateIssuer(within(t), &authorityv1.ActivateIssuerRequest{Generation: 2}); err != nil {
		t.Errorf("an operator who was issued here: %v", err)
	}
}

// Where the record was lost nobody can tell a forgery from what was issued here: all must join again, and get new files.
func TestWithoutTheRecordNobodyUnderARevokedIssuerIsRenewed(t *testing.T) {
	t.Parallel()
	r := openOwn(t)
	ledger := r.client(t, r.caller(t, "/service/ledger"))
	r.replaceIssuer(t)
	if err := os.RemoveAll(filepath.Join(r.dir, "record")); err != nil {
		t.Fatal(err)
	}
	if _, err := ledger.IssueCertificate(within(t), &authorityv1.IssueCertificateRequest{Csr: csr(t, nil, "/service/ledger", nil)}); verdict(err) != "PermissionDenied" {
		t.Errorf("without record/: %v, want a refusal", err)
	}
	today := filepath.Join(r.dir, "record", time.Now().UTC().Format("2006-01-02.jsonl"))
	if err := errors.Join(os.MkdirAll(filepath.Dir(today), 0o700), os.WriteFile(today, []byte("removed by eve\n"), 0o600)); err != nil {
		t.Fatal(err)
	}
	until(t, "a record that cannot be read is told apart", func() bool {
		_, err := ledger.IssueCertificate(within(t), &authorityv1.IssueCertificateRequest{Csr: csr(t, nil, "/service/ledger", nil)})
		return verdict(err) == "Unavailable"
	})
}

// The JWT keys lie beside the issuer's key, under the same credential: who has the one has the others.
func TestAttackATokenMadeWithTheFolderOfARevokedIssuer(t *testing.T) {
	t.Parallel()
	r := openOwn(t) // which makes a JWT key
	copied := filepath.Join(t.TempDir(), "stolen")
	if err := os.CopyFS(copied, os.DirFS(r.dir)); err != nil {
		t.Fatal(err)
	}
	if err := filepath.WalkDir(copied, func(path string, entry os.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		return os.Chmod(path, 0o600)
	}); err != nil {
		t.Fatal(err)
	}
	thief, err := pki.OpenIssuers(copied, nil)
	if err != nil {
		t.Fatal(err)
	}
	client := r.client(t, r.caller(t, "/service/ledger"))
	token := func(issuers *pki.Issuers) string {
		token, _, err := issuers.IssueJWT(spiffeid.RequireFromPath(domain, "/operator/alice"), []string{"bank"})
		if err != nil {
			t.Fatal(err)
		}
		return token
	}
	verifies := func(token string) error {
		response, err := client.GetBundle(within(t), &authorityv1.GetBundleRequest{})
		if err != nil {
			t.Fatal(err)
		}
		document, err := pki.ParseBundleDocument(domain, response.GetBundle().GetJwtKeys())
		if err != nil {
			t.Fatal(err)
		}
		_, err = jwtsvid.ParseAndValidate(token, document.JWTBundle(), []string{"bank"})
		return err
	}
	forged := token(thief)
	if err := verifies(forged); err != nil {
		t.Fatalf("before the revocation: %v", err)
	}
	r.replaceIssuer(t)
	publish := func() { // what the authority does within seconds; making a key takes longer where races are looked for
		if err := errors.Join(r.issuers.RotateJWT(), r.authority.Renumber()); err != nil {
			t.Fatal(err)
		}
	}
	publish()
	fresh := token(r.issuers)
	if err := verifies(fresh); err != nil {
		t.Errorf("a token of the authority: %v", err)
	}
	if err := verifies(forged); err == nil {
		t.Error("the token of the thief is accepted")
	}
	// Whoever repeats the revocation does not take the new key away.
	if _, err := r.issuers.Revoke(1, "once more"); err != nil {
		t.Fatal(err)
	}
	publish()
	if err := verifies(fresh); err != nil {
		t.Errorf("a token of the authority, when the issuer was revoked once more: %v", err)
	}
}

// Whoever is another agent can report in its name, and stays when its own is denied.
func TestAttackAnAgentAsksForAnotherRequestersIdentity(t *testing.T) {
	t.Parallel()
	unregistered := open(t)
	registered, file := openRegistered(t)
	write(t, file, registeredTill)
	host2 := registered.client(t, registered.caller(t, "/agent/host2"))
	until(t, "the till is a requester too", func() bool {
		_, err := host2.IssueCertificate(within(t), &authorityv1.IssueCertificateRequest{Csr: csr(t, nil, "/ns/shop/sa/till", nil)})
		return verdict(err) == "InvalidArgument INVALID_FIELD" && strings.Contains(err.Error(), "is a requester itself")
	})
	_, err := unregistered.client(t, unregistered.caller(t, "/agent/host2")).IssueCertificate(within(t),
		&authorityv1.IssueCertificateRequest{Csr: csr(t, nil, "/service/agent", nil)})
	if verdict(err) != "InvalidArgument INVALID_FIELD" {
		t.Errorf("another agent asks for /service/agent: %v, want a refusal", err)
	}
	agent := unregistered.client(t, unregistered.caller(t, "/service/agent"))
	if _, err := agent.IssueCertificate(within(t), &authorityv1.IssueCertificateRequest{Csr: csr(t, nil, "/service/agent", nil)}); err != nil {
		t.Errorf("the agent renews itself: %v", err)
	}
	if _, err := host2.IssueJwtSvid(within(t), &authorityv1.IssueJwtSvidRequest{SpiffeId: "spiffe://mesh.local/service/agent", Audience: []string{"x"}}); verdict(err) != "InvalidArgument INVALID_FIELD" {
		t.Errorf("a token of /service/agent: %v, want a refusal", err)
	}
}

// registeredTill lets host2 ask for the till, which may ask for something itself.
const registeredTill = `
requesters:
  - id: spiffe://mesh.local/agent/host2
    allow: ["/service/*", "/ns/*/sa/till"]
  - id: spiffe://mesh.local/ns/shop/sa/till
    allow: ["/service/printer"]
`

// A service's name with dots in it is any host name.
func TestAttackAHostNameAsTheNameOfAService(t *testing.T) {
	t.Parallel()
	r := open(t)
	agent := r.client(t, r.caller(t, "/agent/host2"))
	for _, c := range []struct{ path, dns, want string }{
		{"/service/api.bank.example", "api.bank.example", "InvalidArgument INVALID_FIELD"},
		{"/service/ledger.mesh.local", "ledger.mesh.local", "InvalidArgument INVALID_FIELD"},
		{"/service/ledger.eu", "ledger.eu.mesh.local", "InvalidArgument INVALID_FIELD"},
		{"/service/ledger.eu", "localhost", "OK"},
		{"/service/ledger", "ledger.mesh.local", "OK"},
	} {
		if _, err := agent.IssueCertificate(within(t), &authorityv1.IssueCertificateRequest{Csr: csr(t, nil, c.path, []string{c.dns})}); verdict(err) != c.want {
			t.Errorf("%s asks for the DNS name %s: %v, want %s", c.path, c.dns, err, c.want)
		}
	}
}
