package authority_test

import (
	"context"
	"crypto/x509"
	"fmt"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc/status"

	authorityv1 "example.com/rolecall/gen/authority/v1"
	"example.com/rolecall/pki"
)

// Every method but IssueCertificate: who must not, and what must not be sent.
func TestAttacksOnTheOtherMethods(t *testing.T) {
	t.Parallel()
	r := open(t)
	as := map[string]authorityv1.AuthorityServiceClient{}
	for _, path := range []string{"/service/agent", "/agent/host2", "/service/ledger", "/operator/alice", "/join/host3", "/join/a/b"} {
		as[path] = r.client(t, r.caller(t, path))
	}
	agent, ledger, alice, ticket := as["/service/agent"], as["/service/ledger"], as["/operator/alice"], as["/join/host3"]
	type client = authorityv1.AuthorityServiceClient
	jwt := func(c client, id string, audience ...string) func(context.Context) error {
		return func(ctx context.Context) error {
			_, err := c.IssueJwtSvid(ctx, &authorityv1.IssueJwtSvidRequest{SpiffeId: id, Audience: audience})
			return err
		}
	}
	issue := func(c client, path string) func(context.Context) error {
		request := &authorityv1.IssueCertificateRequest{Csr: csr(t, nil, path, nil)}
		return func(ctx context.Context) error { _, err := c.IssueCertificate(ctx, request); return err }
	}
	join := func(c client, path string, dns ...string) func(context.Context) error {
		request := &authorityv1.JoinRequest{Csr: csr(t, nil, path, dns)}
		return func(ctx context.Context) error { _, err := c.Join(ctx, request); return err }
	}
	report := func(c client, change func(*authorityv1.ReportTrustRequest)) func(context.Context) error {
		request := &authorityv1.ReportTrustRequest{Digest: make([]byte, 32)}
		change(request)
		return func(ctx context.Context) error { _, err := c.ReportTrust(ctx, request); return err }
	}
	handed := func(n int, entry *authorityv1.HandedOut) func(*authorityv1.ReportTrustRequest) {
		return func(r *authorityv1.ReportTrustRequest) {
			r.HandedOut = slices.Repeat([]*authorityv1.HandedOut{entry}, n)
		}
	}
	list := func(c client) func(context.Context) error {
		return func(ctx context.Context) error {
			_, err := c.ListIssuers(ctx, &authorityv1.ListIssuersRequest{})
			return err
		}
	}
	prepare := func(c client, der []byte) func(context.Context) error {
		return func(ctx context.Context) error {
			_, err := c.PrepareIssuer(ctx, &authorityv1.PrepareIssuerRequest{Certificate: der})
			return err
		}
	}
	activate := func(c client, generation int32) func(context.Context) error {
		return func(ctx context.Context) error {
			_, err := c.ActivateIssuer(ctx, &authorityv1.ActivateIssuerRequest{Generation: generation})
			return err
		}
	}
	revoke := func(c client, generation int32, reason string) func(context.Context) error {
		return func(ctx context.Context) error {
			_, err := c.RevokeIssuer(ctx, &authorityv1.RevokeIssuerRequest{Generation: generation, Reason: reason})
			return err
		}
	}
	reports := func(c client) func(context.Context) error {
		return func(ctx context.Context) error {
			_, err := c.GetTrustReports(ctx, &authorityv1.GetTrustReportsRequest{})
			return err
		}
	}
	leaf := r.caller(t, "/service/billing").Certificates[0]
	strange := foreignIssuer(t, r)
	good := &authorityv1.HandedOut{SpiffeId: "spiffe://mesh.local/service/x", Digest: make([]byte, 32)}
	const (
		role  = "PermissionDenied ROLE_REQUIRED"
		field = "InvalidArgument INVALID_FIELD"
		mayBe = "not an identity that requesters may ask for"
		id    = "spiffe://mesh.local/service/billing"
	)
	for _, c := range []struct {
		attack, verdict, says string
		mount                 func(context.Context) error
	}{
		{"admin methods by a requester: list issuers", role, "", list(agent)},
		{"admin methods by a requester: ask for an issuer's CSR", role, "", prepare(agent, nil)},
		{"admin methods by a requester: bring an issuer", role, "", prepare(agent, strange.Raw)},
		{"admin methods by a requester: activate an issuer", role, "", activate(agent, 1)},
		{"admin methods by a requester: revoke an issuer", role, "", revoke(agent, 1, "no reason")},
		{"admin methods by a requester: read the reports", role, "", reports(agent)},
		{"admin methods by a service", role, "", revoke(ledger, 1, "no reason")},
		{"admin methods by a ticket", role, "", list(ticket)},
		{"a report by a service", role, "", report(ledger, handed(1, good))},
		{"a report by an administrator", role, "", report(alice, handed(1, good))},
		{"a report by a ticket", role, "", report(ticket, handed(1, good))},
		{"a report of 10,001 entries", field, "10000 at most", report(agent, handed(10_001, good))},
		{"a report about another trust domain", field, "entry 1", report(agent, handed(1, &authorityv1.HandedOut{SpiffeId: "spiffe://other.example/x", Digest: make([]byte, 32)}))},
		{"a report about no identity", field, "entry 1", report(agent, handed(1, &authorityv1.HandedOut{SpiffeId: "x", Digest: make([]byte, 32)}))},
		{"a report with half a digest", field, "entry 1", report(agent, handed(1, &authorityv1.HandedOut{SpiffeId: id, Digest: make([]byte, 16)}))},
		{"a report of fewer streams than none", field, "entry 1", report(agent, handed(1, &authorityv1.HandedOut{SpiffeId: id, Digest: make([]byte, 32), Streams: -1}))},
		{"a report without a digest of its own", field, "digest", report(agent, func(r *authorityv1.ReportTrustRequest) { r.Digest = nil })},

		{"a requester asks for another agent", field, mayBe, issue(as["/agent/host2"], "/agent/host3")},
		{"a requester asks for a ticket", field, mayBe, issue(agent, "/join/host3")},
		{"a ticket renews itself", field, "good for Join", issue(ticket, "/join/host3")},
		{"a ticket asks for a service", field, "good for Join", issue(ticket, "/service/billing")},

		{"a JWT of an operator", field, mayBe, jwt(agent, "spiffe://mesh.local/operator/alice", "a")},
		{"a JWT of the authority", field, mayBe, jwt(agent, "spiffe://mesh.local/service/authority", "a")},
		{"a JWT of another agent", field, mayBe, jwt(as["/agent/host2"], "spiffe://mesh.local/agent/host3", "a")},
		{"a JWT of another trust domain", field, "not a workload", jwt(agent, "spiffe://other.example/service/billing", "a")},
		{"a JWT of the trust domain itself", field, "not a workload", jwt(agent, "spiffe://mesh.local", "a")},
		{"a JWT of another service, without the role", role, "", jwt(ledger, id, "a")},
		{"a JWT by a ticket", field, "good for Join", jwt(ticket, "spiffe://mesh.local/join/host3", "a")},
		{"a JWT without an audience", field, "1 to 8", jwt(agent, id)},
		{"a JWT with nine audiences", field, "1 to 8", jwt(agent, id, strings.Split("abcdefghi", "")...)},
		{"a JWT with an empty audience", field, "1 to 512", jwt(agent, id, "")},
		{"a JWT with an audience of 513 bytes", field, "1 to 512", jwt(agent, id, strings.Repeat("a", 513))},

		{"a ticket of another name", field, "the ticket is for spiffe://mesh.local/agent/host3", join(ticket, "/agent/host2")},
		{"a ticket for a service", field, "the ticket is for", join(ticket, "/service/billing")},
		{"a ticket for an agent with a DNS name", field, "no DNS names", join(ticket, "/agent/host3", "localhost")},
		{"a ticket of two names", field, "not a join ticket", join(as["/join/a/b"], "/agent/a/b")},
		{"an agent instead of a ticket", field, "not a join ticket", join(as["/agent/host2"], "/agent/host2")},
		{"a requester instead of a ticket", field, "not a join ticket", join(agent, "/agent/host3")},

		{"an issuer's certificate that is rubbish", field, "not a certificate", prepare(alice, []byte("hello"))},
		{"an issuer's certificate of 1 MB", field, "16384 at most", prepare(alice, make([]byte, 1<<20))},
		{"a leaf presented as CA", field, "", prepare(alice, leaf.Raw)},
		{"an issuer of a root that is not ours", field, "", prepare(alice, strange.Raw)},
		{"the root as its own issuer", field, "", prepare(alice, r.root.Certificate().Raw)},
		{"an issuer that is not there is activated", field, "", activate(alice, 99)},
		{"an issuer that is not there is revoked", field, "", revoke(alice, 99, "lost")},
		{"an issuer before the first is revoked", field, "", revoke(alice, -1, "lost")},
		{"an issuer is revoked without a reason", field, "1 to 500", revoke(alice, 1, "")},
		{"an issuer is revoked with a long story", field, "1 to 500", revoke(alice, 1, strings.Repeat("x", 501))},
	} {
		t.Run(c.attack, func(t *testing.T) {
			err := c.mount(within(t))
			if got := verdict(err); got != c.verdict || !strings.Contains(status.Convert(err).Message(), c.says) {
				t.Errorf("got %s (%v), want %s that says %q", got, err, c.verdict, c.says)
			}
		})
	}
	if got := r.issuers.Status(); len(got) != 1 || got[0].State != pki.Active {
		t.Errorf("the issuers are now %v", got)
	}
}

// foreignIssuer is a good answer of another root of the same trust domain to the authority's own CSR.
func foreignIssuer(t *testing.T, r *realm) *x509.Certificate {
	t.Helper()
	response, err := r.client(t, r.caller(t, "/operator/alice")).PrepareIssuer(within(t), &authorityv1.PrepareIssuerRequest{})
	if err != nil {
		t.Fatal(fmt.Errorf("ask for the CSR of the next issuer: %w", err))
	}
	cert, err := foreign.open(t).Root().SignIssuerCSR(response.GetCsr(), pki.DefaultIssuerLife)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}
