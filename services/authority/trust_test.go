package authority_test

import (
	"bytes"
	"fmt"
	"slices"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	authorityv1 "example.com/rolecall/gen/authority/v1"
	"example.com/rolecall/pki"
	"example.com/rolecall/services/authority"
)

func (r *realm) trustReports(t *testing.T) *authorityv1.GetTrustReportsResponse {
	t.Helper()
	response, err := r.client(t, r.caller(t, "/operator/alice")).GetTrustReports(within(t), &authorityv1.GetTrustReportsRequest{})
	if err != nil {
		t.Fatal(err)
	}
	return response
}

// live returns the identities with a certificate that has not expired, and who asked for it.
func live(response *authorityv1.GetTrustReportsResponse) []string {
	var found []string
	for _, l := range response.GetLive() {
		found = append(found, l.GetSpiffeId()+" for "+l.GetRequester())
	}
	return found
}

func TestReportsAndTheRecordTellWhoMayNotKnowANewRoot(t *testing.T) {
	t.Parallel()
	r := open(t)
	agent := r.client(t, r.caller(t, "/agent/host2"))
	for range 2 {
		if _, err := agent.IssueCertificate(within(t), &authorityv1.IssueCertificateRequest{Csr: csr(t, nil, "/service/billing", nil)}); err != nil {
			t.Fatal(err)
		}
	}
	bundle, err := agent.GetBundle(within(t), &authorityv1.GetBundleRequest{})
	if err != nil {
		t.Fatal(err)
	}
	digest := pki.BundleDigest(parse(t, bundle.GetRoots()))
	old := &authorityv1.ReportTrustRequest{Sequence: 1, Digest: make([]byte, 32)}
	report := &authorityv1.ReportTrustRequest{Sequence: bundle.GetBundle().GetSequence(), Digest: digest[:], HandedOut: []*authorityv1.HandedOut{
		{SpiffeId: "spiffe://mesh.local/service/billing", Digest: digest[:], Streams: 2},
		{SpiffeId: "spiffe://mesh.local/service/billing", Digest: make([]byte, 32)},
	}}
	began := time.Now()
	for _, each := range []*authorityv1.ReportTrustRequest{old, report} { // the latest counts
		if _, err := agent.ReportTrust(within(t), each); err != nil {
			t.Fatal(err)
		}
	}
	got := r.trustReports(t)
	// Other tests on the common CA give its bundle higher numbers meanwhile.
	if !bytes.Equal(got.GetDigest(), digest[:]) || got.GetSequence() < bundle.GetBundle().GetSequence() || got.GetRefreshHintSeconds() != 60 {
		t.Errorf("the present bundle is %x, %d, %d s", got.GetDigest(), got.GetSequence(), got.GetRefreshHintSeconds())
	}
	if len(got.GetReports()) != 1 {
		t.Fatalf("%d reports, want the latest of the one agent", len(got.GetReports()))
	}
	one := got.GetReports()[0]
	if one.GetAgentId() != "spiffe://mesh.local/agent/host2" || one.GetSequence() != report.GetSequence() || !bytes.Equal(one.GetDigest(), digest[:]) ||
		one.GetReceivedAt().AsTime().Before(began.Add(-time.Second)) || len(one.GetHandedOut()) != 2 || !proto.Equal(one.GetHandedOut()[0], report.GetHandedOut()[0]) {
		t.Errorf("reported %v, want %v", one, report)
	}
	for _, want := range []string{
		"spiffe://mesh.local/service/billing for spiffe://mesh.local/agent/host2",         // asked for twice, there once
		"spiffe://mesh.local/agent/host2 for local",                                       // from the folder, as the callers of this test
		"spiffe://mesh.local/service/authority for spiffe://mesh.local/service/authority", // itself
		"spiffe://mesh.local/operator/alice for local",
	} {
		if n := len(slices.DeleteFunc(live(got), func(l string) bool { return l != want })); n != 1 {
			t.Errorf("%s: there %d times in %q", want, n, live(got))
		}
	}
	for _, l := range got.GetLive() {
		if !bytes.Equal(l.GetRootSha256(), rootDigest(r)) || l.GetNotAfter().AsTime().Before(time.Now()) {
			t.Errorf("%v: want the root %x", l, rootDigest(r))
		}
	}

	// A restart forgets the reports, and not who is alive: the agent is missing until it has reported again.
	if err := r.service.Stop(); err != nil {
		t.Fatal(err)
	}
	got = start(t, r.issuers, authority.Config{Dir: r.dir}).trustReports(t)
	if len(got.GetReports()) != 0 || !slices.Contains(live(got), "spiffe://mesh.local/service/billing for spiffe://mesh.local/agent/host2") {
		t.Errorf("after a restart: %d reports, alive %q; want none, and billing alive", len(got.GetReports()), live(got))
	}
}

func rootDigest(r *realm) []byte {
	digest := r.issuers.Status()[0].RootSHA256
	return digest[:]
}

// As many as are allowed: what 10,000 streams of one machine come to.
func TestAReportOf10000EntriesIsKept(t *testing.T) {
	t.Parallel()
	r := open(t)
	report := &authorityv1.ReportTrustRequest{Digest: make([]byte, 32)}
	for n := range 10_000 {
		report.HandedOut = append(report.HandedOut, &authorityv1.HandedOut{SpiffeId: fmt.Sprintf("spiffe://mesh.local/service/n%d", n), Digest: make([]byte, 32), Streams: 1})
	}
	began := time.Now()
	if _, err := r.client(t, r.caller(t, "/service/agent")).ReportTrust(within(t), report); err != nil {
		t.Fatal(err)
	}
	got := r.trustReports(t)
	t.Logf("%d bytes reported and read in %s", proto.Size(report), time.Since(began).Round(time.Millisecond))
	if len(got.GetReports()) != 1 || len(got.GetReports()[0].GetHandedOut()) != 10_000 {
		t.Errorf("read %d reports", len(got.GetReports()))
	}
}
