package authority_test

import (
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/status"

	authorityv1 "example.com/rolecall/gen/authority/v1"
	"example.com/rolecall/internal/node"
	"example.com/rolecall/services/authority"
)

// One workload without any role could fill the record of the day within the hour, and then nobody gets a certificate.
func TestAttackOneWorkloadFillsTheRecord(t *testing.T) {
	t.Parallel()
	var log, audit logged
	r := openOwn(t, func(c *node.Config) {
		c.Log, c.Audit = slog.New(slog.NewTextHandler(&log, nil)), slog.NewJSONHandler(&audit, nil)
	})
	billing, orders := r.client(t, r.caller(t, "/service/billing")), r.client(t, r.caller(t, "/service/orders"))
	renew := func(c authorityv1.AuthorityServiceClient, path string) error {
		_, err := c.IssueCertificate(within(t), &authorityv1.IssueCertificateRequest{Csr: csr(t, nil, path, nil)})
		return err
	}
	if err := renew(billing, "/service/billing"); err != nil {
		t.Fatal(err)
	}
	r.authority.Exhaust(spiffeid.RequireFromPath(domain, "/service/billing"))
	before := log.signatures()
	err := renew(billing, "/service/billing")
	if verdict(err) != "ResourceExhausted RATE_LIMITED" || log.signatures() > before {
		t.Errorf("renewed a thousand times: %v, want a refusal", err)
	}
	wait := time.Duration(0)
	for _, detail := range status.Convert(err).Details() {
		if info, ok := detail.(*errdetails.RetryInfo); ok {
			wait = info.GetRetryDelay().AsDuration()
		}
	}
	if wait <= 0 {
		t.Errorf("%v does not say when to come again", err)
	}
	until(t, "it is on the audit record", func() bool { // which is written after the call
		return strings.Contains(audit.text(), "CERTIFICATE_REFUSED") && strings.Contains(audit.text(), "too often")
	})
	if err := renew(orders, "/service/orders"); err != nil {
		t.Errorf("another workload: %v", err)
	}
	if err := renew(r.client(t, r.caller(t, "/agent/host2")), "/service/billing"); err != nil {
		t.Errorf("the agent of that workload: %v", err)
	}
}

func TestRenewalsArePacedForEachIdentityAlone(t *testing.T) {
	t.Parallel()
	now := time.Date(2031, 5, 3, 10, 0, 0, 0, time.UTC)
	id := func(n int) spiffeid.ID { return spiffeid.RequireFromPath(domain, fmt.Sprintf("/service/s%d", n)) }
	var r authority.Renewals
	times := func(n int, now time.Time) (had int) {
		for r.Take(id(n), now) {
			had++
		}
		return had
	}
	for _, step := range []struct {
		name string
		id   int
		at   time.Duration
		want int
	}{
		{"at first", 1, 0, 1000},
		{"at once again", 1, 0, 0},
		{"another identity", 2, 0, 1000},
		{"ten seconds later", 1, 10 * time.Second, 10},
		{"the clock an hour back", 1, -time.Hour, 0},
		{"an hour later", 1, time.Hour, 1000},
	} {
		if got := times(step.id, now.Add(step.at)); got != step.want {
			t.Errorf("%s: %d renewals, want %d", step.name, got, step.want)
		}
	}
	later := now.Add(3 * time.Hour)
	for n := range authority.MaxPaced + 10 { // a fleet that renews in the same second
		if !r.Take(id(n), later) {
			t.Fatalf("identity %d of a fleet was refused", n+1)
		}
	}
	if r.Len() > authority.MaxPaced {
		t.Errorf("%d identities are remembered, %d at most", r.Len(), authority.MaxPaced)
	}
	if !r.Take(id(authority.MaxPaced+20), later.Add(time.Minute)) || r.Len() != 1 {
		t.Errorf("%d identities are remembered after all have paid, want 1", r.Len())
	}
}
