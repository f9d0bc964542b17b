package authority

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	authorityv1 "example.com/rolecall/gen/authority/v1"
	"example.com/rolecall/interceptors"
	"example.com/rolecall/pki"
)

// ReportTrust takes an agent's report of which bundle it handed to whom. An agent speaks for itself alone: the report is
// kept under the caller's ID.
func (a *Authority) ReportTrust(ctx context.Context, req *authorityv1.ReportTrustRequest) (*authorityv1.ReportTrustResponse, error) {
	caller := interceptors.CallerFrom(ctx)
	if err := a.checkCaller(ctx, caller); err != nil {
		return nil, err
	}
	if err := a.checkReport(req); err != nil {
		a.log.WarnContext(ctx, "trust report refused", "agent", caller.ID(), "error", err)
		return nil, err
	}
	if err := a.reports.put(caller.ID(), req, time.Now(), a.life); err != nil {
		a.log.ErrorContext(ctx, "trust report not kept", "agent", caller.ID(), "error", err)
		return nil, status.Error(codes.ResourceExhausted, "the authority keeps no more reports; its log says why")
	}
	return &authorityv1.ReportTrustResponse{}, nil
}

func (a *Authority) checkReport(req *authorityv1.ReportTrustRequest) error {
	if n := len(req.GetHandedOut()); n > maxHandedOut {
		return interceptors.InvalidField("handed_out", fmt.Sprintf("%d entries: %d at most are kept", n, maxHandedOut))
	}
	if n := len(req.GetDigest()); n != sha256.Size {
		return interceptors.InvalidField("digest", fmt.Sprintf("%d bytes: a SHA-256 has %d", n, sha256.Size))
	}
	for n, entry := range req.GetHandedOut() {
		id, err := spiffeid.FromString(entry.GetSpiffeId())
		if err != nil || id.TrustDomain() != a.issuers.TrustDomain() || id.Path() == "" {
			return interceptors.InvalidField("handed_out", fmt.Sprintf("entry %d: not an identity of the trust domain %s", n+1, a.issuers.TrustDomain()))
		}
		if len(entry.GetDigest()) != sha256.Size || entry.GetStreams() < 0 {
			return interceptors.InvalidField("handed_out", fmt.Sprintf("entry %d: a digest of %d bytes and a number of streams are needed", n+1, sha256.Size))
		}
	}
	return nil
}

// GetTrustReports returns what agents have reported since the authority's start, and what the record says is alive.
func (a *Authority) GetTrustReports(ctx context.Context, _ *authorityv1.GetTrustReportsRequest) (*authorityv1.GetTrustReportsResponse, error) {
	records, err := a.issuers.LiveRecords(time.Now())
	if err != nil {
		a.log.ErrorContext(ctx, "record of certificates not read", "error", err)
		return nil, status.Error(codes.Unavailable, "the authority cannot read its record at present; its log says why")
	}
	live, err := liveIdentities(records)
	if err != nil {
		a.log.ErrorContext(ctx, "record of certificates not understood", "error", err)
		return nil, status.Error(codes.Unavailable, "the authority cannot read its record at present; its log says why")
	}
	now := a.current.Load()
	answer := &authorityv1.GetTrustReportsResponse{Digest: now.digest[:], Sequence: now.bundle.GetSequence(),
		RefreshHintSeconds: now.bundle.GetRefreshHintSeconds(), Live: live}
	agents, latest := a.reports.all()
	for _, agent := range agents {
		r := latest[agent]
		answer.Reports = append(answer.Reports, &authorityv1.TrustReport{AgentId: agent.String(), ReceivedAt: timestamppb.New(r.received),
			Sequence: r.content.GetSequence(), Digest: r.content.GetDigest(), HandedOut: r.content.GetHandedOut()})
	}
	return answer, nil
}

// liveIdentities folds the record of certificates that have not expired: one line for each identity, root and requester.
// A line that cannot be read is an error: an identity that is left out would not be asked about.
func liveIdentities(records []pki.Record) ([]*authorityv1.LiveIdentity, error) {
	type key struct{ id, root, requester string }
	ends := map[key]time.Time{}
	for _, r := range records {
		k := key{r.ID, r.RootSHA256, cmp.Or(r.Requester, "local")}
		if r.NotAfter.After(ends[k]) {
			ends[k] = r.NotAfter
		}
	}
	live := make([]*authorityv1.LiveIdentity, 0, len(ends))
	for k, end := range ends {
		root, err := hex.DecodeString(k.root)
		if err != nil || len(root) != sha256.Size {
			return nil, fmt.Errorf("record of %s: root %q is not the SHA-256 of a certificate", k.id, k.root)
		}
		live = append(live, &authorityv1.LiveIdentity{SpiffeId: k.id, RootSha256: root, NotAfter: timestamppb.New(end), Requester: k.requester})
	}
	slices.SortFunc(live, func(x, y *authorityv1.LiveIdentity) int {
		return cmp.Or(cmp.Compare(x.GetSpiffeId(), y.GetSpiffeId()), slices.Compare(x.GetRootSha256(), y.GetRootSha256()),
			cmp.Compare(x.GetRequester(), y.GetRequester()))
	})
	return live, nil
}
