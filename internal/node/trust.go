package node

import (
	"bytes"
	"context"
	"crypto/sha256"
	"log/slog"
	"slices"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	adminv1 "example.com/rolecall/gen/rolecall/admin/v1"
	"example.com/rolecall/interceptors"
)

// trustService answers for the process that it runs in: it reads the very source that the guard verifies peers with, so
// that nothing it says is a second opinion. Part of every node. Safe for concurrent use.
type trustService struct {
	adminv1.UnimplementedAdminServiceServer
	source interceptors.Source
	guard  *interceptors.Guard
	log    *slog.Logger
}

// GetTrust returns the roots of the own trust domain as they are at this moment, and the own chain. It fails with
// UNAVAILABLE while the source has none: whoever waits for a new root to be known must not take that for an answer.
func (t *trustService) GetTrust(ctx context.Context, _ *adminv1.GetTrustRequest) (*adminv1.GetTrustResponse, error) {
	svid, err := t.source.GetX509SVID()
	if err != nil {
		return nil, t.unavailable(ctx, "own certificate", err)
	}
	bundle, err := t.source.GetX509BundleForTrustDomain(svid.ID.TrustDomain())
	if err != nil {
		return nil, t.unavailable(ctx, "bundle of the own trust domain", err)
	}
	answer := &adminv1.GetTrustResponse{
		SpiffeId: svid.ID.String(), TrustDomain: svid.ID.TrustDomain().Name(),
		Time: timestamppb.Now(), PolicyVersion: t.guard.Status().PolicyVersion,
	}
	for _, root := range bundle.X509Authorities() {
		sum := sha256.Sum256(root.Raw)
		answer.RootSha256 = append(answer.RootSha256, sum[:])
	}
	slices.SortFunc(answer.RootSha256, bytes.Compare)
	answer.RootSha256 = slices.CompactFunc(answer.RootSha256, bytes.Equal)
	for _, cert := range svid.Certificates {
		answer.Chain = append(answer.Chain, cert.Raw)
	}
	return answer, nil
}

func (t *trustService) unavailable(ctx context.Context, what string, err error) error {
	t.log.ErrorContext(ctx, "cannot tell what is trusted", slog.String("missing", what), slog.Any("error", err))
	return status.Error(codes.Unavailable, "this service has no "+what+" at present; its log says why")
}
